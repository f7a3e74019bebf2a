"""The store of a bucket, read with obstore; its errors become ours here."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..aio import timeout
from ..credentials import Credentials, Keys
from ..errors import DownloaderError, ErrorCode
from ..faults import explain, unaccelerated
from .pace import SMALLEST_CHUNK

if TYPE_CHECKING:
    import obstore
    from obstore.store import ClientConfig, S3Store

__all__ = ["BucketReader", "can_name"]

_CONNECT_SECONDS = 10
_LATE = 1.0  # seconds for one chunk
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>")


def can_name(key: str) -> bool:
    """Tell whether obstore can ask for `key` as it is: it knows paths, not any text."""
    return all(part not in ("", ".", "..") and part.isprintable() for part in key.split("/"))


class BucketReader:
    """Reads ranges of the objects of one bucket, each pinned to an ETag.

    It never tries again by itself. obstore is loaded with the first one.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None,
        accelerate: bool,
        credentials: Credentials,
        region: str,
        patience: float,
    ) -> None:
        """A store that sends no byte for `patience` seconds counts as STALLED."""
        self._bucket = bucket
        self._endpoint = _endpoint(bucket, endpoint_url, accelerate)
        self._virtual_host = accelerate or not endpoint_url
        self._credentials = credentials
        self._patience = patience
        self._keys: Keys | None = None
        self._keyless: DownloaderError | None = None
        self._region = region
        self._store = self._connect()

    async def read(
        self,
        key: str,
        etag: str,
        span: tuple[int, int],
        chunk: int,
        take: Callable[[bytes], Awaitable[None]],
    ) -> float:
        """Hand the bytes of `span`, from its start to before its end, to `take`, as they come.

        They come in chunks of at least `chunk` bytes, but for the last; after one that was late no
        more come, so that the next request can have smaller ones. Returns the seconds until
        the store began to answer. Raises SOURCE_CHANGED where the object has another ETag now,
        NETWORK_UNREACHABLE, TIMEOUT, STALLED, ACCESS_DENIED and the like, and what `take` raises.
        """
        from obstore.exceptions import BaseError

        subject = f"s3://{self._bucket}/{key}"
        now = asyncio.get_running_loop().time
        began = now()
        store = self._store
        try:
            async with timeout(self._patience) as stall:
                result = await self._ask(store, key, etag, span, subject)
                waited = now() - began
                asked = now()
                stall.reschedule(asked + self._patience)
                async for data in result.stream(min_chunk_size=chunk):
                    stall.reschedule(None)
                    is_late = chunk > SMALLEST_CHUNK and now() - asked > _LATE
                    await take(data)
                    if is_late:
                        break
                    asked = now()
                    stall.reschedule(asked + self._patience)
        except TimeoutError:
            raise DownloaderError(
                ErrorCode.STALLED,
                f"nothing arrived for {self._patience:g} s while {subject} was fetched; check the"
                " network",
            ) from None
        except BaseError as error:
            raise self._explained(error, subject, store) from error
        return waited

    async def _ask(
        self, store: S3Store, key: str, etag: str, span: tuple[int, int], subject: str
    ) -> obstore.GetResult:
        """Return the answer to one request, of which the body has not been read yet."""
        import obstore
        from obstore.exceptions import PreconditionError

        options: obstore.GetOptions = {"range": span, "if_match": f'"{etag}"'}
        try:
            result = await obstore.get_async(store, key, options=options)
        except PreconditionError:
            raise _changed(subject) from None
        except FileNotFoundError as error:
            raise self._explained(error, subject, store) from error
        if (result.meta["e_tag"] or "").strip('"') != etag:
            raise _changed(subject)
        return result

    def _explained(self, error: Exception, subject: str, store: S3Store) -> DownloaderError:
        """Return what an error of obstore means; mend what can be mended for the next try.

        Another request may have mended it already: then `store` is not the present one.
        """
        if self._keyless:
            return self._keyless
        text = str(error)
        region = _REGION.search(text)
        if region and not self._endpoint and (store, region[1]) != (self._store, self._region):
            if store is self._store:
                self._region = region[1]
                self._store = self._connect()
            return DownloaderError(ErrorCode.TIMEOUT, f"{subject} lies in {region[1]}")
        explained = explain(text, subject)
        if explained.code is ErrorCode.CREDENTIALS_UNAVAILABLE and store is self._store:
            self._credentials.forget(self._keys)
            self._store = self._connect()
        return explained

    def _connect(self) -> S3Store:
        from obstore.store import S3Store

        options: ClientConfig = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "timeout": timedelta(days=30),  # of a whole answer, however slow; see `patience`
        }
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            options["root_certificate"] = Path(bundle).read_bytes()
        return S3Store(
            self._bucket,
            config={"endpoint": self._endpoint} if self._endpoint else None,
            region=self._region,
            virtual_hosted_style_request=self._virtual_host,
            client_options=options,
            retry_config={"max_retries": 0},
            credential_provider=self._provide,
        )

    async def _provide(self) -> Any:
        """Return the credentials as obstore wants them; it asks again when they expire."""
        try:
            keys = self._keys = await self._credentials.get()
        except DownloaderError as error:
            self._keyless = error  # obstore keeps no more of it than some words
            raise
        self._keyless = None
        return {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "token": keys.token,
            "expires_at": keys.expires_at,
        }


def _endpoint(bucket: str, endpoint_url: str | None, accelerate: bool) -> str | None:
    if not accelerate:
        return endpoint_url
    if endpoint_url:
        raise unaccelerated(endpoint_url)
    return f"https://{bucket}.s3-accelerate.amazonaws.com"


def _changed(subject: str) -> DownloaderError:
    return DownloaderError(
        ErrorCode.SOURCE_CHANGED,
        f"{subject} was replaced while it was fetched; what is there of it is given up",
    )
