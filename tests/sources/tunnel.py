"""A proxy that carries connections, as HTTPS proxies do: CONNECT, then bytes both ways."""

from __future__ import annotations

import asyncio
import contextlib

from ..connections import Connections

__all__ = ["Tunnel"]


class Tunnel:
    """Carries every connection to one server, wherever it is to lead; an async context manager."""

    def __init__(self, server: str) -> None:
        """`server` is the host and port that connections are carried to."""
        self.targets: list[str] = []
        """Where connections were to lead, as host and port."""
        self.authorizations: list[str] = []
        """What they were authorized with, empty for nothing."""
        self._server = server
        self._connections = Connections()

    async def __aenter__(self) -> Tunnel:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._connections.end()

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.serve(self._carry(reader, writer), writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        method, target, _ = lines[0].split(" ")
        assert method == "CONNECT"
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.targets.append(target)
        self.authorizations.append(headers.get("Proxy-Authorization", ""))
        host, _, port = self._server.rpartition(":")
        server_reader, server_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
        finally:
            server_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    writer.close()
