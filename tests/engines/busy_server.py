"""A proxy to the object server that can refuse requests, such as one that is too busy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from ..connections import LocalServer

__all__ = ["BusyServer", "refusal"]

_ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
_REASONS = {503: "Slow Down", 500: "Internal Server Error", 400: "Bad Request"}


class BusyServer(LocalServer):
    """Passes requests without a body to the server at `port`, unless `refuse` returns a response.

    An async context manager. `refuse` is called with the head of each request. `requests` and
    `refused` count them.
    """

    def __init__(self, port: int, refuse: Callable[[str], bytes | None]) -> None:
        super().__init__()
        self.requests = 0
        self.refused = 0
        self._target = port
        self._refuse = refuse

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, then close the connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # the client has left
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests += 1
            if answer := self._refuse(head):
                self.refused += 1
                writer.write(answer)
            else:
                await self._relay(head, writer)
            await writer.drain()

    async def _relay(self, head: str, writer: asyncio.StreamWriter) -> None:
        source, target = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            target.write(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
            while data := await source.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            target.close()


def refusal(status: int, code: str) -> bytes:
    """Return an error response with a status and an S3 error code."""
    body = _ERROR.format(code=code)
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()
