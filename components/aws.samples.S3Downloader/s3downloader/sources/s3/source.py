"""What a bucket holds: listings and heads of objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import islice
from typing import TypeVar

from ...core.aio import run_all
from ...core.backoff import backoff
from ...core.clock import Clock
from ...core.errors import TRANSIENT, DownloaderError, ErrorCode
from .client import Request
from .listing import MOST_KEYS, Listed, Listing, Page, page_of
from .object_metadata import ObjectInfo, ObjectMetadata
from .refusals import Refusal, explained

__all__ = ["ObjectInfo", "S3Source"]

T = TypeVar("T")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0


class S3Source:
    """Buckets of S3, listed and read over connections that are kept, with a page in memory.

    A request that fails in passing is repeated `retry_count` times, with pauses that grow from a
    quarter of a second to two seconds: few, so that an absent network shows within seconds. `page`
    is how many objects are listed at once.
    """

    def __init__(
        self, heads: ObjectMetadata, clock: Clock, *, retry_count: int = 3, page: int = MOST_KEYS
    ) -> None:
        self._heads = heads
        self._clock = clock
        self._retry_count = retry_count
        self._page = page

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Go through the objects under `prefix`, without empty folder markers.

        A folder marker is an object whose key ends in `/`. Raises LISTING_INCOMPLETE before its
        end rather than end too early.
        """
        listing = Listing(self._ask, bucket, prefix, most=self._page)
        async for objects in listing.pages():
            for info in await self._complete(bucket, objects):
                yield info

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """Return one object. Needs s3:GetObject only; tells an absent bucket from an absent key.

        For that it asks for the bucket where the store names neither.
        """
        try:
            return await self._with_retries(lambda: self._heads.head(bucket, key))
        except DownloaderError as error:
            is_unnamed = (
                error.code is ErrorCode.OBJECT_NOT_FOUND and "store_code" not in error.details
            )
            if not is_unnamed or await self._is_bucket(bucket):
                raise
        raise explained(Refusal(404, "NoSuchBucket"), f"s3://{bucket}/{key}")

    async def read(self, bucket: str, key: str, etag: str, size: int) -> bytes:
        """Return an object of `size` bytes; raise SOURCE_CHANGED if it is another one."""
        return await self._with_retries(lambda: self._heads.read(bucket, key, etag, size))

    async def checksum(self, bucket: str, key: str, etag: str, size: int) -> str:
        """Return the checksum that the store has of an object, such as `CRC64NVME:` with base64.

        Empty where it has none. Raises SOURCE_CHANGED where the object has another ETag.
        """
        expected = await self._with_retries(lambda: self._heads.expected(bucket, key, etag, size))
        return expected.label if expected else ""

    async def browse(
        self, bucket: str, prefix: str, start_after: str | None, limit: int
    ) -> tuple[Sequence[ObjectInfo], bool]:
        """Return up to `limit` objects after the key `start_after`, and whether there are more."""
        found: list[ObjectInfo] = []
        listing = Listing(
            self._ask,
            bucket,
            prefix,
            start_after=start_after or "",
            most=min(limit + 1, self._page),
        )
        async for objects in listing.pages():
            found += await self._complete(bucket, objects)
            if len(found) > limit:
                break
        return found[:limit], len(found) > limit

    async def _complete(self, bucket: str, objects: Sequence[Listed]) -> Sequence[ObjectInfo]:
        """Return what is listed, with what its heads tell where the listing does not.

        Raises OBJECT_NOT_FOUND where one contradicts the listing: it may be what is to be fetched.
        """
        found = [o for o in objects if not o.key.endswith("/") or o.size != 0]
        heads: dict[str, ObjectInfo] = {}

        async def ask(key: str) -> None:
            heads[key] = await self._with_retries(lambda: self._heads.head(bucket, key))

        await run_all(*(ask(o.key) for o in found if o.size is None or not o.etag))
        objects_found = (heads.get(o.key) or _info(o) for o in found)
        return [info for info in objects_found if not _is_marker(info)]

    async def _is_bucket(self, bucket: str) -> bool:
        try:
            await self._heads.client.send(Request(method="HEAD", bucket=bucket, key=""))
        except DownloaderError as error:
            return error.code is not ErrorCode.BUCKET_NOT_FOUND
        return True

    async def _ask(self, request: Request) -> Page:
        """Return the page of a listing that `request` asks for."""

        async def ask() -> Page:
            return page_of(await self._heads.client.send(request), request)

        return await self._with_retries(ask)

    async def _with_retries(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return what `ask` returns, in as many tries as there may be."""
        for pause in islice(backoff(_SHORTEST_PAUSE, _LONGEST_PAUSE), self._retry_count):
            try:
                return await ask()
            except DownloaderError as error:
                if not _may_pass(error):
                    raise
            await self._clock.sleep(pause)
        return await ask()


def _info(listed: Listed) -> ObjectInfo:
    return ObjectInfo(listed.key, listed.size or 0, listed.etag)


def _is_marker(info: ObjectInfo) -> bool:
    return info.key.endswith("/") and not info.size


def _may_pass(error: DownloaderError) -> bool:
    """Tell whether the same request may succeed soon; silence was waited for long enough."""
    is_silent = error.code is ErrorCode.TIMEOUT and "status" not in error.details
    return not is_silent and error.code in TRANSIENT | {ErrorCode.LISTING_INCOMPLETE}
