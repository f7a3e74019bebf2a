"""Sends one request and reads its response, in one thread.

The thread reads from the socket into its own buffer, and passes parts of this buffer to the
callback. Bytes are not copied in between; client libraries copy them two or three times.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from http.client import HTTPException
from threading import Lock, local

from ...core.errors import DownloaderError
from ...core.throttle import Share
from .connections import Connections
from .errors import SilenceError, connection_error
from .requests import Completion, HttpRequest, ResponseHead, StopReading
from .streaming import StreamingResponse
from .timeouts import Deadline, MinimumRate, shut_down

__all__ = ["Exchange", "OnChunk", "OnHeaders"]

OnHeaders = Callable[[ResponseHead], None]
"""Is called once, with the head of the response."""
OnChunk = Callable[[memoryview], None]
"""Is called with each chunk of the body. The memory is reused after the call."""

_GATHER_SECONDS = 0.05
"""The longest time in seconds in which a chunk is gathered.

If the process is killed, the chunk that each connection is gathering is lost.
"""

_thread_local = local()


class Exchange:
    """Sends a request and passes its response to callbacks.

    `run` must be called in a thread, everything else in the thread of the event loop.
    """

    def __init__(
        self,
        connections: Connections,
        request: HttpRequest,
        on_headers: OnHeaders,
        on_chunk: OnChunk,
        *,
        time_limit: float,
        share: Share | None,
    ) -> None:
        self.deadline = Deadline(time_limit)
        self._connections = connections
        self._request = request
        self._on_headers = on_headers
        self._on_chunk = on_chunk
        self._time_limit = time_limit
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._rate = MinimumRate(time_limit)
        self._waited = 0.0
        self._error: Exception | None = None  # what ended the body after the last chunk
        self._lock = Lock()  # protects the attributes below
        self._is_aborted = False
        self._socket: socket.socket | None = None
        self._throttling: Future[None] | None = None

    def run(self) -> Completion:
        """Send the request and read the response. Blocks.

        Raises DownloaderError, and what the callbacks raise, except StopReading.
        """
        began = time.monotonic()
        response = self._send()
        first_byte = time.monotonic() - began
        is_delimited = False
        try:
            self._on_headers(response.head)
            self._receive(response)
            is_delimited = response.is_delimited
        except StopReading:
            pass
        finally:
            self._release()
            response.end(keep=not self._is_aborted)
        return Completion(first_byte, is_delimited)

    def abort(self) -> bool:
        """Stop receiving, and wake the thread if it is waiting.

        Returns whether the thread has a connection. If so, it passes on what has already arrived
        before `run` ends.
        """
        with self._lock:
            self._is_aborted = True
            if self._throttling:
                self._throttling.cancel()
            if not self._socket:
                return False
            shut_down(self._socket)
            return True

    def _send(self) -> StreamingResponse:
        try:
            response = self._connections.send(
                self._request, time_limit=self._time_limit, watch=self._watch
            )
        except (OSError, HTTPException) as error:
            raise self._to_error(error) from error
        self.deadline.on_response()
        return response

    def _watch(self, connected: socket.socket | None) -> None:
        with self._lock:
            if self._is_aborted:
                raise CancelledError
            self._socket = connected
        self.deadline.watch(connected)

    def _release(self) -> None:
        """Clear the socket, because another request may use it soon."""
        with self._lock:
            self._socket = None

    def _receive(self, response: StreamingResponse) -> None:
        self._check(response.check_length)
        while chunk := self._gather(response):
            self._on_chunk(chunk)
            if not response.is_delimited:
                self._check(self._rate.add, len(chunk), self._waited)
            self._throttle(len(chunk))
        self._check(response.check_complete)

    def _check(self, check: Callable[..., None], *values: float) -> None:
        try:
            check(*values)
        except (OSError, HTTPException) as error:
            raise self._to_error(error) from error

    def _gather(self, response: StreamingResponse) -> memoryview:
        """Return the next chunk, which is empty at the end of the body.

        It is shorter than the buffer if the buffer is not full after `_GATHER_SECONDS` seconds, or
        if the connection fails. The next call then raises that.
        """
        if self._error:  # the connection does not raise it again
            raise self._to_error(self._error) from self._error
        buffer = _buffer(self._request.chunk_bytes)
        count, since = 0, time.monotonic()
        try:
            while count < len(buffer):
                got = response.read_some(buffer[count:])
                count += got
                if not got or time.monotonic() - since > _GATHER_SECONDS:
                    break
        except (OSError, HTTPException, ValueError) as error:
            if not count:
                raise self._to_error(error) from error
            self._error = error
        self._waited = time.monotonic() - since
        return buffer[:count]

    def _throttle(self, size: int) -> None:
        """Wait until the bandwidth limit allows reading more."""
        if not self._share or not self._share.limited:
            return
        with self._lock:
            if self._is_aborted:
                return
            self._throttling = asyncio.run_coroutine_threadsafe(self._share.take(size), self._loop)
        try:
            self._throttling.result()
        except CancelledError:
            return

    def _to_error(self, error: Exception) -> DownloaderError:
        if self.deadline.is_over:
            cause = f"{type(error).__name__}: {error}"
            return SilenceError(self._request.subject, "no complete head of a response", cause)
        return connection_error(error, self._request.subject)


def _buffer(size: int) -> memoryview:
    """Return the first `size` bytes of this thread's buffer, which is enlarged if needed."""
    buffer: memoryview | None = getattr(_thread_local, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _thread_local.buffer = memoryview(bytearray(size))
    return buffer[:size]
