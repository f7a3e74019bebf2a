"""A proxy for HTTPS: answers CONNECT, then relays bytes in both directions."""

from __future__ import annotations

import asyncio
import contextlib

from ..connections import LocalServer

__all__ = ["Tunnel"]


class Tunnel(LocalServer):
    """Relays all connections to one server, whatever their target; an async context manager."""

    def __init__(self, server: str) -> None:
        """Relay to `server`, which is a host and port."""
        super().__init__()
        self.targets: list[str] = []
        """The targets of the CONNECT requests, as host and port."""
        self.authorizations: list[str] = []
        """Their Proxy-Authorization headers; empty if there was none."""
        self._target = server

    @property
    def address(self) -> str:
        """The host and port of the proxy."""
        return self.endpoint.removeprefix("http://")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer CONNECT, then relay bytes in both directions."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        method, target, _ = lines[0].split(" ")
        assert method == "CONNECT"
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.targets.append(target)
        self.authorizations.append(headers.get("Proxy-Authorization", ""))
        host, _, port = self._target.rpartition(":")
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
