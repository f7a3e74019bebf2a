"""Limits on time: until a response begins, and for the least number of bytes that must arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Lock

from ...core.request_timeouts import MIN_BYTES

__all__ = ["Deadline", "MinimumRate", "shut_down"]


class MinimumRate:
    """Detects a connection that delivers almost nothing.

    Only time spent waiting for bytes counts. Time spent waiting for the disk or for a bandwidth
    limit does not.
    """

    def __init__(self, time_limit: float) -> None:
        self._time_limit = time_limit
        self._waited = 0.0
        self._count = 0

    def add(self, count: int, waited: float) -> None:
        """Record that `count` bytes arrived after `waited` seconds of waiting.

        Raises TimeoutError if fewer than MIN_BYTES arrived in `time_limit` seconds.
        """
        self._count += count
        self._waited += waited
        if self._count >= MIN_BYTES:
            self._count, self._waited = 0, 0.0
        elif self._waited >= self._time_limit:
            raise TimeoutError(f"{self._count} bytes arrived in {self._waited:.0f} s")


class Deadline:
    """Ends a request if the complete head of its response has not arrived after `seconds`.

    `start` and `stop` must be called in the thread of the event loop, `watch` and `on_response` in
    the thread of the request.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._lock = Lock()  # protects `is_over` and the attributes below
        self._has_begun = False
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Start the timer."""
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def stop(self) -> None:
        """Stop the timer, because the request has ended."""
        if self._timer:
            self._timer.cancel()

    def watch(self, connected: socket.socket | None) -> None:
        """Set the socket to shut down when the time is over, None while there is none.

        Raises TimeoutError if the time is already over.
        """
        with self._lock:
            if self.is_over:
                raise TimeoutError("the time was over before a connection was made")
            self._socket = connected

    def on_response(self) -> None:
        """Record that the head of the response has arrived. The time no longer matters."""
        with self._lock:
            self._has_begun = True

    def _end(self) -> None:
        with self._lock:
            if not self._has_begun:
                self.is_over = True
                if self._socket:
                    shut_down(self._socket)


def shut_down(connected: socket.socket) -> None:
    """Stop receiving on a socket that another thread may be reading from.

    What has arrived can still be read. A read that waits returns. This works below TLS: the
    shutdown of TLS would change state that the other thread uses.
    """
    with contextlib.suppress(OSError):  # the socket is already closed
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
