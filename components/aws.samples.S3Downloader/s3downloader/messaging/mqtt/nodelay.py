"""Sets TCP_NODELAY on the connection to the broker, so that small packets are sent at once."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

__all__ = ["disable_nagle"]

_OPEN_FILES = Path("/proc/self/fd")


def disable_nagle(port: int) -> None:
    """Set TCP_NODELAY on this process's TCP connections to `port`. The SDK cannot set it.

    Without it, the response to a command is sent only after the broker's TCP has acknowledged the
    packet with the PUBACK, which TCP delays by 40 ms. A round trip was measured with 47 ms without
    TCP_NODELAY, and with 1 ms with it.
    """
    with contextlib.suppress(FileNotFoundError):  # without /proc messages are only slower
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
