"""Receives the response to a request for bytes of an object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...sources.http.errors import broken_off
from ...sources.http.requests import CHUNK_BYTES, Collector, Completion, ResponseHead
from ...sources.s3.client import REFUSAL_BYTES, Response
from .range_response import Body, ObjectRequest, check_response, too_long, too_short
from .server_features import ServerFeatures

__all__ = ["SMALL_OBJECT_BYTES", "RangeReceiver", "ResponseHandler"]

SMALL_OBJECT_BYTES = 256 << 10
"""The largest size in bytes of a small object. It is held in memory until it is complete."""


class ResponseHandler(NamedTuple):
    """Callbacks for the parts of a response, called in the thread that reads it.

    - `on_chunk` gets a chunk of the object's bytes, of at most `chunk_bytes`. The memory is reused
      after the call.
    - `on_discard` is called if the bytes turn out not to be the object's. All that `on_chunk` got
      of this response must then be discarded.
    - `on_headers` is for objects of up to SMALL_OBJECT_BYTES. It gets the headers of the response
      before the first chunk. With it, the request also asks for the object's checksum.
    """

    on_chunk: Callable[[memoryview], None]
    on_discard: Callable[[], None]
    on_headers: Callable[[Mapping[str, str]], None] | None = None

    @property
    def chunk_bytes(self) -> int:
        """The largest chunk in bytes."""
        return SMALL_OBJECT_BYTES if self.on_headers else CHUNK_BYTES


class RangeReceiver:
    """Checks the response to one request, and passes its bytes on to a handler.

    The transport calls `on_headers` and `on_chunk`. When the response has ended, the caller must
    call `finish`, unless `is_finished`. If the request failed, the caller must call `discard` if
    `must_discard`. Both may block on the disk.
    """

    def __init__(
        self, requested: ObjectRequest, handler: ResponseHandler, features: ServerFeatures
    ) -> None:
        self._requested = requested
        self._handler = handler
        self._features = features
        self._loop = asyncio.get_running_loop()
        self._refusal: Collector | None = None
        self._body: Body | None = None
        self._missing = 0
        self._last_chunk: bytes | None = None

    @property
    def refusal(self) -> Response | None:
        """The response if the object store refused the request, else None."""
        if self._refusal is None:
            return None
        return Response(*self._refusal.head, bytes(self._refusal.body))

    @property
    def is_finished(self) -> bool:
        """Whether all bytes have been passed on, or the request was refused."""
        return not self._missing and self._last_chunk is None

    @property
    def must_discard(self) -> bool:
        """Whether an incomplete body is useless, because its position in the object is unknown."""
        return self._body is not None and not self._body.has_position

    def on_headers(self, head: ResponseHead) -> None:
        """Check the head of the response. Keep a response without success as a refusal.

        Raises as `check_response`.
        """
        if head.status not in (200, 206):
            self._refusal = Collector(REFUSAL_BYTES)
            self._refusal.on_headers(head)
            return
        self._body = check_response(head.status, head.headers, self._requested)
        self._missing = self._body.length
        if head.status == 206:
            self._loop.call_soon_threadsafe(self._features.ranges.on_honored)
        if self._handler.on_headers:
            self._handler.on_headers(head.headers)

    def on_chunk(self, chunk: memoryview) -> None:
        """Pass a chunk on. Hold back the last one of a body without a length until the body ends.

        Raises SIZE_MISMATCH if there are more bytes than were requested.
        """
        if self._refusal:
            self._refusal.on_chunk(chunk)
            return
        assert self._body
        if len(chunk) > self._missing:
            self._handler.on_discard()
            raise too_long(self._requested)
        self._missing -= len(chunk)
        if self._missing or self._body.has_length:
            self._handler.on_chunk(chunk)
        else:
            self._last_chunk = bytes(chunk)

    def finish(self, completion: Completion) -> None:
        """Pass on the chunk that was held back.

        Raises SIZE_MISMATCH if the body has ended too early by its own framing, and
        NETWORK_UNREACHABLE if the connection broke.
        """
        if self._missing and completion.is_delimited:
            self._handler.on_discard()
            raise too_short(self._requested, self._missing)
        if self._missing:
            raise broken_off(self._requested.subject, self._missing)
        if self._last_chunk is not None:
            self._handler.on_chunk(memoryview(self._last_chunk))

    def discard(self) -> None:
        """Make the handler discard what it got."""
        self._handler.on_discard()
