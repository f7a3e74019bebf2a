"""How long a store may take: until an answer begins, and for the least that must come of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from threading import Lock

from .errors import DownloaderError

__all__ = ["LEAST_BYTES", "Deadline", "MinimumRate", "shut_down", "with_retry_after"]

LEAST_BYTES = 1 << 10
"""What must come at least in the time for which a store may be silent.

Less than a packet: 64 connections share a link of 20 kbit/s, and none of them falls below.
"""


_LONGEST = 3_600.0


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
    """Ends a request whose answer has not begun after `seconds`, however its head drips.

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
        """An answer is awaited from this socket, None while there is none yet.

        Raises TimeoutError where the time is over already.
        """
        with self._lock:
            if self.is_over:
                raise TimeoutError("the time was over before a connection was made")
            self._socket = connected

    def on_response(self) -> None:
        """The answer has begun in time."""
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


def with_retry_after(error: DownloaderError, headers: Mapping[str, str]) -> DownloaderError:
    """Add to an error for how many seconds the store asks to be left alone, as `retry_after`.

    That is at most an hour. Nothing is added where it does not ask. Names of `headers` are in
    lower case. Source: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    try:
        if value.isascii() and value.isdigit():
            seconds = float(value)
        else:
            until = parsedate_to_datetime(value)
            seconds = (until - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (TypeError, ValueError):
        return error
    if seconds > 0:
        error.details["retry_after"] = min(seconds, _LONGEST)
    return error
