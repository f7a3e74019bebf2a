"""One request for bytes of an object, in a thread of its own.

The thread waits in the kernel, which puts what arrives straight into the thread's buffer; from
there it goes to the disk. No byte is copied in between, as client libraries do two or three times.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from http.client import HTTPException, IncompleteRead
from threading import Lock, local
from typing import NamedTuple

from ...core.errors import DownloaderError, ErrorCode
from ...core.throttle import Share
from ...sources.http.errors import connection_error
from ...sources.http.timeouts import Deadline, MinimumRate, shut_down
from ...sources.s3.credentials import Keys
from ...sources.s3.http import Request, Response, S3Http, StreamingResponse
from .range_response import Body, ObjectRequest, check_response, too_long, too_short
from .server_features import ServerFeatures

__all__ = ["CHUNK", "SMALL_OBJECT_BYTES", "RangeRequest", "ResponseHandler"]

SMALL_OBJECT_BYTES = 256 << 10
"""The bytes of a thread's buffer: objects up to this size are gathered whole, then handed over."""

CHUNK = 96 << 10
"""The bytes that are gathered at most of larger ones: what the caches hold for a few threads."""

_GATHERING = 0.05
"""Seconds for which they are gathered at most: a death costs no more of each connection."""

_of_thread = local()


class ResponseHandler(NamedTuple):
    """What is called with the parts of a response, in the thread that reads it.

    `on_chunk` gets at most CHUNK bytes, which are its own for the call. `on_discard` follows where
    they turn out not to be the object's: all that `on_chunk` got of this response is void. With
    `on_headers` the object has up to SMALL_OBJECT_BYTES, and its checksum is asked for in the same
    request: it gets the headers of the response, then `on_chunk` gets all that comes.
    """

    on_chunk: Callable[[memoryview], None]
    on_discard: Callable[[], None]
    on_headers: Callable[[Mapping[str, str]], None] | None = None


class RangeRequest:
    """One request, in its thread."""

    def __init__(
        self,
        http: S3Http,
        request: Request,
        requested: ObjectRequest,
        keys: Keys,
        share: Share,
        handler: ResponseHandler,
        features: ServerFeatures,
    ) -> None:
        self.first_byte = 0.0
        self.deadline = Deadline(http.patience)
        self._http = http
        self._request = request
        self._requested = requested
        self._keys = keys
        self._share = share
        self._handler = handler
        self._features = features
        self._rate = MinimumRate(http.patience)
        self._waited = 0.0
        self._lock = Lock()  # for what follows
        self._is_aborted = False
        self._socket: socket.socket | None = None
        self._paying: Future[None] | None = None

    def run(self, loop: asyncio.AbstractEventLoop) -> Response | None:
        """Read what was asked for; return the store's refusal, if it refuses."""
        response = self._begin()
        if response.status not in (200, 206):
            return self._refusal(response)
        try:
            body = check_response(response.status, response.headers, self._requested)
            if response.status == 206:
                loop.call_soon_threadsafe(self._features.ranges.on_honored)
            if self._handler.on_headers:
                self._handler.on_headers(response.headers)
            self._receive(response, body, loop)
        finally:
            self._detach()
            response.end(keep=not self._is_aborted)
        return None

    def abort(self) -> bool:
        """Let nothing more arrive, and wake the thread from whatever it waits for.

        Returns whether it has a connection, and so takes what has arrived, if anything has.
        """
        with self._lock:
            self._is_aborted = True
            if self._paying:
                self._paying.cancel()
            if not self._socket:
                return False
            shut_down(self._socket)
            return True

    def _begin(self) -> StreamingResponse:
        began = time.monotonic()
        try:
            response = self._http.begin(self._request, self._keys, self._watch)
        except (OSError, HTTPException) as error:
            raise self._explained(error) from error
        self.deadline.on_response()
        self.first_byte = time.monotonic() - began
        return response

    def _refusal(self, response: StreamingResponse) -> Response:
        self._detach()
        try:
            return response.read_all(0, self._http.patience)
        except (OSError, HTTPException) as error:
            raise self._explained(error) from error

    def _watch(self, connected: socket.socket | None) -> None:
        with self._lock:
            if self._is_aborted:
                raise CancelledError
            self._socket = connected
        self.deadline.watch(connected)

    def _detach(self) -> None:
        """The connection may be another request's in a moment."""
        with self._lock:
            self._socket = None

    def _receive(
        self, response: StreamingResponse, body: Body, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Hand over the bytes of a body, the last of them once it has ended with them."""
        left = body.length
        buffer = _buffer() if self._handler.on_headers else _buffer()[:CHUNK]
        try:
            while left and (chunk := self._gather(response, buffer[:left])):
                left -= len(chunk)
                if not left:
                    self._check_end(response, body)
                self._handler.on_chunk(chunk)
                if left:
                    self._check_rate(len(chunk))
                self._throttle(loop, len(chunk))
            if not body.length:
                self._check_end(response, body)
        except BaseException:
            self._discard_partial(response, body)
            raise
        if left:
            self._discard_partial(response, body)
            self._raise_short(response, left)

    def _check_rate(self, size: int) -> None:
        try:
            self._rate.add(size, self._waited)
        except TimeoutError as error:
            raise self._explained(error) from error

    def _check_end(self, response: StreamingResponse, body: Body) -> None:
        if not body.is_framed and self._gather(response, memoryview(bytearray(1))):
            self._handler.on_discard()
            raise too_long(self._requested)

    def _discard_partial(self, response: StreamingResponse, body: Body) -> None:
        """Let a part of a body count only where the answer told of which bytes it is."""
        is_other = response.has_ended and not body.is_framed
        if is_other or not body.is_placed:
            self._handler.on_discard()

    def _raise_short(self, response: StreamingResponse, missing: int) -> None:
        if response.has_ended:
            raise too_short(self._requested, missing)
        if not self._is_aborted:
            raise self._explained(IncompleteRead(b"", missing))

    def _gather(self, response: StreamingResponse, buffer: memoryview) -> memoryview:
        """Fill the buffer, or as much of it as comes in a while; nothing is the end."""
        count, since = 0, time.monotonic()
        try:
            while count < len(buffer):
                got = response.read_some(buffer[count:])
                count += got
                if not got or time.monotonic() - since > _GATHERING:
                    break
        except (OSError, HTTPException, ValueError) as error:
            if not count:
                raise self._explained(error) from error
        self._waited = time.monotonic() - since
        return buffer[:count]

    def _throttle(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        """Wait until the bandwidth allows to read on."""
        if not self._share.limited:
            return
        with self._lock:
            if self._is_aborted:
                return
            self._paying = asyncio.run_coroutine_threadsafe(self._share.take(size), loop)
        try:
            self._paying.result()
        except CancelledError:
            return

    def _explained(self, error: Exception) -> DownloaderError:
        if self.deadline.is_over:
            return self._stalled("no whole head of an answer")
        if isinstance(error, TimeoutError):
            return self._stalled("next to nothing")
        return connection_error(error, self._request.subject)

    def _stalled(self, came: str) -> DownloaderError:
        return DownloaderError(
            ErrorCode.STALLED,
            f"{came} arrived for {self._http.patience:g} s while {self._request.subject} was"
            " fetched; check the network",
        )


def _buffer() -> memoryview:
    """Return the buffer of this thread, SMALL_OBJECT_BYTES bytes long."""
    if not hasattr(_of_thread, "buffer"):
        _of_thread.buffer = memoryview(bytearray(SMALL_OBJECT_BYTES))
    buffer: memoryview = _of_thread.buffer
    return buffer
