"""The source for S3: lists, describes and reads the objects of a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from ...core import validators
from ...core.aio import run_all
from ...core.backoff import backoff
from ...core.checksums import Expected
from ...core.clock import Clock
from ...core.errors import TRANSIENT, DownloaderError, ErrorCode
from ...core.objects import ObjectRef, SourceRef
from .client import Request
from .listing import MOST_KEYS, Listed, Listing, Page, page_of
from .object_metadata import ObjectMetadata, checksum_from_headers
from .refusals import Refusal, refusal_error

__all__ = ["S3Source"]

T = TypeVar("T")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0


class S3Source:
    """Lists, describes and reads the objects of a bucket.

    After a transient error a request is repeated up to `retry_count` times, with pauses that grow
    from 0.25 to 2 seconds. So a missing network is noticed within seconds. `page` is how many
    objects are listed per request; one page is in memory. `accelerate` is used by `request`, see
    `Request`.
    """

    def __init__(
        self,
        metadata: ObjectMetadata,
        clock: Clock,
        ref: SourceRef,
        *,
        retry_count: int = 3,
        page: int = MOST_KEYS,
        accelerate: bool = False,
    ) -> None:
        self.ref = ref
        self._metadata = metadata
        self._clock = clock
        self._retry_count = retry_count
        self._page = page
        self._accelerate = accelerate

    async def list(self, *, after: str = "", page: int | None = None) -> AsyncIterator[ObjectRef]:
        """Yield the objects under the prefix, which is the path of `ref`.

        Leaves out folder markers: empty objects whose key ends in `/`. See `Source.list`.
        """
        most = min(page or self._page, self._page)
        listing = Listing(
            self._send, self.ref.authority, self.ref.path, start_after=after, most=most
        )
        async for objects in listing.pages():
            for found in await self._complete(objects):
                yield found

    async def stat(self, name: str) -> ObjectRef:
        """Return one object, see `Source.stat`. Needs only s3:GetObject.

        If the object store does not say whether the bucket or the key is missing, the bucket is
        requested too.
        """
        try:
            return await self._with_retries(lambda: self._metadata.head(self.ref.authority, name))
        except DownloaderError as error:
            is_unnamed = (
                error.code is ErrorCode.OBJECT_NOT_FOUND and "store_code" not in error.details
            )
            if not is_unnamed or await self._is_bucket():
                raise
        raise refusal_error(Refusal(404, "NoSuchBucket"), self.ref.uri_of(name))

    async def read_small(self, wanted: ObjectRef) -> bytes:
        """Return the bytes of an object, see `Source.read_small`."""
        return await self._with_retries(lambda: self._metadata.read(self.ref.authority, wanted))

    async def checksum(self, wanted: ObjectRef) -> Expected | None:
        """Return the object store's checksum of an object, see `Source.checksum`."""
        return await self._with_retries(lambda: self._metadata.expected(self.ref.authority, wanted))

    def checksum_in(self, headers: Mapping[str, str], wanted: ObjectRef) -> Expected | None:
        """Return the checksum in the headers of a response with the complete object."""
        return checksum_from_headers(headers, wanted.validator, wanted.size)

    def request(
        self, wanted: ObjectRef, span: tuple[int, int] | None, *, with_checksum: bool = False
    ) -> Request:
        """Return a GET request for an object or a range of it, see `Source.request`."""
        headers = validators.conditions(wanted.validator)
        if span:
            headers["range"] = f"bytes={span[0]}-{span[1] - 1}"
        if with_checksum:
            headers |= self._metadata.checksum_mode.headers
        return Request(
            method="GET",
            bucket=self.ref.authority,
            key=wanted.name,
            headers=headers,
            accelerate=self._accelerate,
        )

    def plainer(self, request: Request, error: DownloaderError) -> Request | None:
        """Return a refused request without asking for a checksum, if that may be the cause."""
        mode = self._metadata.checksum_mode
        return mode.without_checksums(request) if mode.may_cause(request, error) else None

    def plainer_succeeded(self) -> None:
        """Stop asking for checksums."""
        self._metadata.checksum_mode.confirm_unsupported()

    async def _complete(self, objects: Sequence[Listed]) -> Sequence[ObjectRef]:
        """Return the listed objects without folder markers.

        A missing size or validator is taken from the HEAD of the object. Raises as
        `ObjectMetadata.head`, also for an object that is listed but does not exist.
        """
        found = [o for o in objects if not o.key.endswith("/") or o.size != 0]
        heads: dict[str, ObjectRef] = {}

        async def request(key: str) -> None:
            heads[key] = await self._with_retries(
                lambda: self._metadata.head(self.ref.authority, key)
            )

        await run_all(*(request(o.key) for o in found if o.size is None or not o.validator))
        objects_found = (heads.get(o.key) or _object(o) for o in found)
        return [each for each in objects_found if not _is_marker(each)]

    async def _is_bucket(self) -> bool:
        try:
            request = Request(method="HEAD", bucket=self.ref.authority, key="")
            await self._metadata.client.send(request)
        except DownloaderError as error:
            return error.code is not ErrorCode.BUCKET_NOT_FOUND
        return True

    async def _send(self, request: Request) -> Page:
        """Send a request for a page of a listing, and return the page."""

        async def send() -> Page:
            return page_of(await self._metadata.client.send(request), request)

        return await self._with_retries(send)

    async def _with_retries(self, send: Callable[[], Awaitable[T]]) -> T:
        """Return what `send` returns. Call it again after a transient error, see the class."""
        for pause in islice(backoff(_SHORTEST_PAUSE, _LONGEST_PAUSE), self._retry_count):
            try:
                return await send()
            except DownloaderError as error:
                if not _may_pass(error):
                    raise
            await self._clock.sleep(pause)
        return await send()


def _object(listed: Listed) -> ObjectRef:
    return ObjectRef(listed.key, listed.size or 0, listed.validator, listed.modified)


def _is_marker(listed: ObjectRef) -> bool:
    return listed.name.endswith("/") and not listed.size


def _may_pass(error: DownloaderError) -> bool:
    """Return whether the same request may soon succeed.

    It is not repeated after a TIMEOUT without a response, because that has taken long enough.
    """
    is_silent = error.code is ErrorCode.TIMEOUT and "status" not in error.details
    return not is_silent and error.code in TRANSIENT | {ErrorCode.LISTING_INCOMPLETE}
