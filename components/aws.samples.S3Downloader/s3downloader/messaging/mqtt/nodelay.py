"""Sending small packets at once."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

__all__ = ["disable_nagle"]

_OPEN_FILES = Path("/proc/self/fd")


def disable_nagle(port: int) -> None:
    """Set TCP_NODELAY on this process's connections to `port`, which the SDK has no way to set.

    Without it a response to a command waits until the broker's TCP has acknowledged the PUBACK of
    the command, and that takes TCP's delay of 40 ms: 47 ms a round trip were measured, 1 ms with.
    """
    with contextlib.suppress(FileNotFoundError):  # a system without /proc is only slower
        for open_file in _OPEN_FILES.iterdir():
            with contextlib.suppress(OSError):  # no socket, not connected, or closed meanwhile
                _disable(int(open_file.name), port)


def _disable(number: int, port: int) -> None:
    connection = socket.socket(fileno=number)
    try:
        internet = connection.family in (socket.AF_INET, socket.AF_INET6)
        if internet and connection.getpeername()[1] == port:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    finally:
        connection.detach()
