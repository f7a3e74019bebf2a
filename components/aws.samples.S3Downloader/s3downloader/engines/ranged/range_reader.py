"""Requests bytes of the objects of a source. Repeats a request only if the refusal says how."""

from __future__ import annotations

import asyncio

from ...core.aio import uninterrupted
from ...core.errors import DownloaderError, ErrorCode
from ...core.records import FileRecord
from ...core.request_timeouts import with_retry_after
from ...core.throttle import Share
from ...sources.base import Source
from ...sources.http.errors import SilenceError
from ...sources.http.requests import Completion, HttpRequest
from ...sources.s3.client import TRIES, Request, S3Client
from .range_request import RangeReceiver, ResponseHandler
from .range_response import ObjectRequest, RangesIgnoredError, check_refusal
from .server_features import ServerFeatures

__all__ = ["SourceReader"]


class SourceReader:
    """Reads objects of one source. Each request is pinned to the object's validator.

    After other errors than a refusal that says how, repeating is up to the caller.
    """

    def __init__(
        self,
        source: Source,
        *,
        client: S3Client,
        share: Share,
        features: ServerFeatures,
    ) -> None:
        self._source = source
        self._client = client
        self._share = share
        self._features = features

    async def read(
        self, file: FileRecord, span: tuple[int, int] | None, handler: ResponseHandler
    ) -> float:
        """Request a range of an object, and pass its bytes to `handler` as they arrive.

        `span` is the requested range: the offset of its first byte, and the offset after its last
        byte. None requests the complete object. The object must have the validator
        `file.validator`, if that is not empty.

        Returns the seconds until the response began. When cancelled, it first passes on all bytes
        that have arrived, including those that the kernel still holds. After `read` has returned or
        raised, `handler` is not called.

        Raises RangesIgnoredError if the object store sends other bytes, SOURCE_CHANGED if the
        object has changed, NETWORK_UNREACHABLE, TIMEOUT, STALLED, the error of a refusal, such as
        ACCESS_DENIED, and what `handler` raises.
        """
        ranges = self._features.ranges
        is_first = bool(span) and await ranges.acquire()
        requested = ObjectRequest(
            self._source.ref.uri_of(file.name), file.validator, file.size, span
        )
        try:
            if span and ranges.is_ignored:
                raise RangesIgnoredError(requested, "known from an earlier response")
            with_checksum = bool(handler.on_headers) and not span
            request = self._source.request(file.object, span, with_checksum=with_checksum)
            return await self._send(requested, request, handler)
        except RangesIgnoredError:
            ranges.on_ignored()
            raise
        finally:
            if is_first:
                ranges.release()

    async def _send(
        self, requested: ObjectRequest, request: Request, handler: ResponseHandler
    ) -> float:
        """Send a request. Repeat it, up to TRIES times in all, if the refusal says how.

        Returns the seconds until the response began.
        """
        keys = await self._client.credentials.get()
        is_plain = False
        for _ in range(TRIES):
            receiver = RangeReceiver(requested, handler, self._features)
            http_request = self._client.http_request(request, keys, handler.chunk_bytes)
            completion = await self._receive(http_request, receiver)
            refusal = receiver.refusal
            if refusal is None:
                if is_plain:
                    self._source.plainer_succeeded()
                return completion.first_byte
            check_refusal(refusal.status, refusal.code, requested)
            renewed = await self._client.refresh_from_error(request, refusal, keys)
            error = refusal.error(request)
            if renewed is None and (plainer := self._source.plainer(request, error)):
                request, renewed, is_plain = plainer, keys, True
            if renewed is None:
                break
            keys = renewed
        assert refusal
        raise with_retry_after(error, refusal.headers)

    async def _receive(self, request: HttpRequest, receiver: RangeReceiver) -> Completion:
        """Send one request and receive its response. Discard a response that is useless."""
        try:
            completion = await self._fetch(request, receiver)
            if not receiver.is_finished:
                await uninterrupted(asyncio.to_thread(receiver.finish, completion))
        except BaseException:
            if receiver.must_discard:
                await uninterrupted(asyncio.to_thread(receiver.discard))
            raise
        return completion

    async def _fetch(self, request: HttpRequest, receiver: RangeReceiver) -> Completion:
        transport = self._client.transport
        try:
            return await transport.fetch(
                request, receiver.on_headers, receiver.on_chunk, self._share
            )
        except SilenceError as silence:
            raise DownloaderError(
                ErrorCode.STALLED,
                f"{silence.received} arrived for {transport.time_limit:g} s while {request.subject}"
                " was fetched; check the network",
            ) from silence
