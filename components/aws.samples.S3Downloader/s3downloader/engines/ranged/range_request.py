"""What becomes of the response to a request for bytes of an object."""

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
"""Objects up to this size are gathered whole, then handed over."""


class ResponseHandler(NamedTuple):
    """What is called with the parts of a response, in the thread that reads it.

    `on_chunk` gets at most CHUNK_BYTES, which are its own for the call. `on_discard` follows where
    they turn out not to be the object's: all that `on_chunk` got of this response is void. With
    `on_headers` the object has up to SMALL_OBJECT_BYTES, and its checksum is asked for in the same
    request: it gets the headers of the response, then `on_chunk` gets all that comes.
    """

    on_chunk: Callable[[memoryview], None]
    on_discard: Callable[[], None]
    on_headers: Callable[[Mapping[str, str]], None] | None = None

    @property
    def chunk_bytes(self) -> int:
        """The largest chunk that it takes."""
        return SMALL_OBJECT_BYTES if self.on_headers else CHUNK_BYTES


class RangeReceiver:
    """Checks the response to one request, and hands its bytes to a handler.

    `on_headers` and `on_chunk` are for the transport. When the response has ended, `finish` is
    called unless `is_finished`; when it failed, `discard` if `is_void`. Both may write to the disk.
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
        self._held: bytes | None = None

    @property
    def refusal(self) -> Response | None:
        """The response, if the object store refused the request."""
        if self._refusal is None:
            return None
        return Response(*self._refusal.head, bytes(self._refusal.body))

    @property
    def is_finished(self) -> bool:
        """Whether all bytes were handed over, or the request was refused."""
        return not self._missing and self._held is None

    @property
    def is_void(self) -> bool:
        """Whether a part of the body is of no use: nothing tells which bytes it is."""
        return self._body is not None and not self._body.is_placed

    def on_headers(self, head: ResponseHead) -> None:
        """Check the head of the response; one without success is kept as a refusal.

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
        """Hand bytes over; hold the last of a body of untold length until it has ended.

        Raises SIZE_MISMATCH for more bytes than were asked for.
        """
        if self._refusal:
            self._refusal.on_chunk(chunk)
            return
        assert self._body
        if len(chunk) > self._missing:
            self._handler.on_discard()
            raise too_long(self._requested)
        self._missing -= len(chunk)
        if self._missing or self._body.is_framed:
            self._handler.on_chunk(chunk)
        else:
            self._held = bytes(chunk)

    def finish(self, completion: Completion) -> None:
        """Hand over what was held.

        Raises SIZE_MISMATCH where the body says that it ends too early, NETWORK_UNREACHABLE where
        it broke off.
        """
        if self._missing and completion.is_delimited:
            self._handler.on_discard()
            raise too_short(self._requested, self._missing)
        if self._missing:
            raise broken_off(self._requested.subject, self._missing)
        if self._held is not None:
            self._handler.on_chunk(memoryview(self._held))

    def discard(self) -> None:
        """Take back what was handed over."""
        self._handler.on_discard()
