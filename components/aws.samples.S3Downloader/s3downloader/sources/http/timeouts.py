"""How long a server may take: until a response begins, and for the least that must come of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from threading import Lock

from ...core.request_timeouts import LEAST_BYTES

__all__ = ["Deadline", "MinimumRate", "shut_down"]


class MinimumRate:
    """Tells a connection that drips from one that is slow.

    Only time spent waiting for bytes counts, not that for the disk or for the bandwidth.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waited = 0.0
        self._count = 0

    def add(self, count: int, waited: float) -> None:
        """Note that `count` bytes came after `waited` seconds.

        Raises TimeoutError where fewer than LEAST_BYTES came in `patience` seconds.
        """
        self._count += count
        self._waited += waited
        if self._count >= LEAST_BYTES:
            self._count, self._waited = 0, 0.0
        elif self._waited >= self._patience:
            raise TimeoutError(f"{self._count} bytes came in {self._waited:.0f} s")


class Deadline:
    """Ends a request whose response has not begun after `seconds`, however its head drips.

    `start` and `stop` are for the event loop's thread, the rest for the request's.
    """

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._lock = Lock()  # for what follows, and `is_over`
        self._has_begun = False
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Let the time begin."""
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def stop(self) -> None:
        """The request is over."""
        if self._timer:
            self._timer.cancel()

    def watch(self, connected: socket.socket | None) -> None:
        """A response is awaited from this socket, None while there is none yet.

        Raises TimeoutError where the time is over already.
        """
        with self._lock:
            if self.is_over:
                raise TimeoutError("the time was over before a connection was made")
            self._socket = connected

    def on_response(self) -> None:
        """The response has begun in time."""
        with self._lock:
            self._has_begun = True

    def _end(self) -> None:
        with self._lock:
            if not self._has_begun:
                self.is_over = True
                if self._socket:
                    shut_down(self._socket)


def shut_down(connected: socket.socket) -> None:
    """Let nothing more arrive on a socket that another thread may read from.

    Below TLS, whose own shutdown would touch what that thread uses. What has arrived can still be
    read, and no read waits any more.
    """
    with contextlib.suppress(OSError):  # it is closed already
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
