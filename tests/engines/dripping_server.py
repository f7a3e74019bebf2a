"""An object store that sends its responses one byte at a time."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine
from typing import Any

from ..connections import LocalServer

__all__ = ["DrippingServer"]


class DrippingServer(LocalServer):
    """Answers requests for `content`; an async context manager.

    From the position in a response that `drips` gives, it sends one byte every `pause` seconds.
    """

    def __init__(self, content: bytes, *, pause: float = 0.02) -> None:
        super().__init__()
        self.drips: dict[int, int] = {}
        """The position from which responses drip, by the number of the connection from 1."""
        self.always: int | None = None
        """The same position for all connections."""
        self._content = content
        self._pause = pause

    def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[Any, Any, None]:
        """Answer requests; the number of the connection is that of all connections so far."""
        return self._serve(self.connections, reader, writer)

    async def _serve(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                await self._send(number, self._answer(request), writer)

    async def _send(self, number: int, answer: bytes, writer: asyncio.StreamWriter) -> None:
        at = self.drips.get(number, len(answer)) if self.always is None else self.always
        writer.write(answer[:at])
        await writer.drain()
        for drop in range(at, len(answer)):
            await asyncio.sleep(self._pause)
            writer.write(answer[drop : drop + 1])
            await writer.drain()

    def _answer(self, request: str) -> bytes:
        found = re.search(r"range: bytes=(\d+)-(\d+)", request.lower())
        start, end = (int(found[1]), int(found[2]) + 1) if found else (0, len(self._content))
        ranged = f"Content-Range: bytes {start}-{end - 1}/{len(self._content)}\r\n" if found else ""
        status = "206 Partial Content" if found else "200 OK"
        head = (
            f'HTTP/1.1 {status}\r\nETag: "etag-2"\r\n{ranged}Content-Length: {end - start}\r\n\r\n'
        )
        return head.encode() + (b"" if request.startswith("HEAD") else self._content[start:end])
