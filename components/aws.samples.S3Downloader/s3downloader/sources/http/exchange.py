"""One request and its response, in a thread of its own while it lasts.

The thread waits in the kernel, which puts what arrives straight into the thread's buffer; from
there it is handed over. No byte is copied in between, as client libraries do two or three times.
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
OnChunk = Callable[[memoryview], None]

_GATHERING = 0.05
"""Seconds for which a chunk is gathered at most: a death costs no more of each connection."""

_of_thread = local()


class Exchange:
    """Sends a request and hands its response over: `run` is for a thread, the rest for the loop."""

    def __init__(
        self,
        connections: Connections,
        request: HttpRequest,
        on_headers: OnHeaders,
        on_chunk: OnChunk,
        *,
        patience: float,
        share: Share | None,
    ) -> None:
        self.deadline = Deadline(patience)
        self._connections = connections
        self._request = request
        self._on_headers = on_headers
        self._on_chunk = on_chunk
        self._patience = patience
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._rate = MinimumRate(patience)
        self._waited = 0.0
        self._lock = Lock()  # for what follows
        self._is_aborted = False
        self._socket: socket.socket | None = None
        self._throttling: Future[None] | None = None

    def run(self) -> Completion:
        """Carry it out. Raises DownloaderError, and what the callbacks raise."""
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
        """Let nothing more arrive, and wake the thread from whatever it waits for.

        Returns whether it has a connection, and so hands over what has arrived, if anything has.
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
                self._request, patience=self._patience, watch=self._watch
            )
        except (OSError, HTTPException) as error:
            raise self._explained(error) from error
        self.deadline.on_response()
        return response

    def _watch(self, connected: socket.socket | None) -> None:
        with self._lock:
            if self._is_aborted:
                raise CancelledError
            self._socket = connected
        self.deadline.watch(connected)

    def _release(self) -> None:
        """Forget the socket: it may be another request's in a moment."""
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
            raise self._explained(error) from error

    def _gather(self, response: StreamingResponse) -> memoryview:
        """Return a chunk, or as much of it as comes in a while; nothing is the end."""
        buffer = _buffer(self._request.chunk_bytes)
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

    def _throttle(self, size: int) -> None:
        """Wait until the bandwidth allows to read on."""
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

    def _explained(self, error: Exception) -> DownloaderError:
        if self.deadline.is_over:
            cause = f"{type(error).__name__}: {error}"
            return SilenceError(self._request.subject, "no whole head of a response", cause)
        return connection_error(error, self._request.subject)


def _buffer(size: int) -> memoryview:
    """Return the buffer of this thread, `size` bytes of it."""
    buffer: memoryview | None = getattr(_of_thread, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _of_thread.buffer = memoryview(bytearray(size))
    return buffer[:size]
