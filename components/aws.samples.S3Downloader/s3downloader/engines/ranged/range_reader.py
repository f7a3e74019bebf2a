"""Requests for the bytes of the objects of a bucket, asked again only where a refusal tells how."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from ...core import validators
from ...core.aio import uninterrupted
from ...core.records import FileRecord
from ...core.request_timeouts import with_retry_after
from ...core.throttle import Share
from ...sources.s3.credentials import Credentials
from ...sources.s3.http import TRIES, Request, Response, S3Http
from ...sources.s3.object_metadata import ChecksumMode
from .range_request import RangeRequest, ResponseHandler
from .range_response import ObjectRequest, RangesIgnoredError, check_refusal
from .server_features import ServerFeatures

__all__ = ["BucketReader"]


class BucketReader:
    """Reads objects of one bucket, pinned to a validator each; tries nothing again by itself."""

    def __init__(
        self,
        bucket: str,
        *,
        http: S3Http,
        credentials: Credentials,
        share: Share,
        threads: ThreadPoolExecutor,
        features: ServerFeatures,
        checksum_mode: ChecksumMode,
        accelerate: bool,
    ) -> None:
        self._bucket = bucket
        self._http = http
        self._credentials = credentials
        self._share = share
        self._threads = threads
        self._features = features
        self._checksum_mode = checksum_mode
        self._accelerate = accelerate

    async def read(
        self, file: FileRecord, span: tuple[int, int] | None, handler: ResponseHandler
    ) -> float:
        """Hand the bytes of `span`, from its start to before its end, to `handler`, as they come.

        Without a span the whole object is asked for. `file.etag` is the validator that it must
        have, empty for any.

        Returns the seconds until the store began to answer. Raises RangesIgnoredError where the
        store answers with other bytes, SOURCE_CHANGED where the object is another one now,
        NETWORK_UNREACHABLE, TIMEOUT, STALLED, ACCESS_DENIED and the like, and what `handler`
        raises. Cancelled, it hands over what has arrived until then, in the kernel too. When it has
        returned, raised or been cancelled, `handler` is not called any more.
        """
        ranges = self._features.ranges
        is_first = bool(span) and await ranges.acquire()
        requested = ObjectRequest(f"s3://{self._bucket}/{file.key}", file.etag, file.size, span)
        try:
            if span and ranges.is_ignored:
                raise RangesIgnoredError(requested, "known of the store")
            return await self._ask(requested, self._request(file, span, handler), handler)
        except RangesIgnoredError:
            ranges.on_ignored()
            raise
        finally:
            if is_first:
                ranges.release()

    def _request(
        self, file: FileRecord, span: tuple[int, int] | None, handler: ResponseHandler
    ) -> Request:
        headers = validators.conditions(file.etag)
        if span:
            headers["range"] = f"bytes={span[0]}-{span[1] - 1}"
        if handler.on_headers and not span:
            headers |= self._checksum_mode.headers
        return Request(
            method="GET",
            bucket=self._bucket,
            key=file.key,
            headers=headers,
            accelerate=self._accelerate,
        )

    async def _ask(
        self, requested: ObjectRequest, request: Request, handler: ResponseHandler
    ) -> float:
        """Make one request, a few times where a refusal tells how."""
        keys = await self._credentials.get()
        is_plain = False
        for _ in range(TRIES):
            range_request = RangeRequest(
                self._http, request, requested, keys, self._share, handler, self._features
            )
            refusal = await self._run(range_request)
            if refusal is None:
                if is_plain:
                    self._checksum_mode.confirm_unsupported()
                return range_request.first_byte
            check_refusal(refusal.status, refusal.code, requested)
            renewed = await self._http.refresh_from_error(request, refusal, keys)
            error = refusal.explained(request)
            if renewed is None and self._checksum_mode.may_cause(request, error):
                plain = self._checksum_mode.without_checksums(request)
                request, renewed, is_plain = plain, keys, True
            if renewed is None:
                break
            keys = renewed
        assert refusal
        raise with_retry_after(error, refusal.headers)

    async def _run(self, range_request: RangeRequest) -> Response | None:
        loop = asyncio.get_running_loop()
        range_request.deadline.start()
        running = loop.run_in_executor(self._threads, range_request.run, loop)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(_forget)
            if range_request.abort():
                await uninterrupted(asyncio.wait([running]))
            raise
        finally:
            range_request.deadline.stop()


def _forget(running: asyncio.Future[Response | None]) -> None:
    if not running.cancelled():
        running.exception()
