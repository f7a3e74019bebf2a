"""Requests for the bytes of the objects of a bucket, asked again only where a refusal tells how."""

from __future__ import annotations

import asyncio

from ...core import validators
from ...core.aio import uninterrupted
from ...core.errors import DownloaderError, ErrorCode
from ...core.records import FileRecord
from ...core.request_timeouts import with_retry_after
from ...core.throttle import Share
from ...sources.http.errors import SilenceError
from ...sources.http.requests import Completion, HttpRequest
from ...sources.s3.client import TRIES, Request, S3Client
from ...sources.s3.object_metadata import ChecksumMode
from .range_request import RangeReceiver, ResponseHandler
from .range_response import ObjectRequest, RangesIgnoredError, check_refusal
from .server_features import ServerFeatures

__all__ = ["BucketReader"]


class BucketReader:
    """Reads objects of one bucket, pinned to a validator each; tries nothing again by itself."""

    def __init__(
        self,
        bucket: str,
        *,
        client: S3Client,
        share: Share,
        features: ServerFeatures,
        checksum_mode: ChecksumMode,
        accelerate: bool,
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._share = share
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
        keys = await self._client.credentials.get()
        is_plain = False
        for _ in range(TRIES):
            receiver = RangeReceiver(requested, handler, self._features)
            http_request = self._client.http_request(request, keys, handler.chunk_bytes)
            completion = await self._receive(http_request, receiver)
            refusal = receiver.refusal
            if refusal is None:
                if is_plain:
                    self._checksum_mode.confirm_unsupported()
                return completion.first_byte
            check_refusal(refusal.status, refusal.code, requested)
            renewed = await self._client.refresh_from_error(request, refusal, keys)
            error = refusal.explained(request)
            if renewed is None and self._checksum_mode.may_cause(request, error):
                plain = self._checksum_mode.without_checksums(request)
                request, renewed, is_plain = plain, keys, True
            if renewed is None:
                break
            keys = renewed
        assert refusal
        raise with_retry_after(error, refusal.headers)

    async def _receive(self, request: HttpRequest, receiver: RangeReceiver) -> Completion:
        """Make one request; nothing is left of a response that turns out to be of no use."""
        try:
            completion = await self._fetch(request, receiver)
            if not receiver.is_finished:
                await uninterrupted(asyncio.to_thread(receiver.finish, completion))
        except BaseException:
            if receiver.is_void:
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
                f"{silence.received} arrived for {transport.patience:g} s while {request.subject}"
                " was fetched; check the network",
            ) from silence
