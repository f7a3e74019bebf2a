"""A test's own server on loopback, and the tasks that serve its connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Connections", "LocalServer"]

_Server = TypeVar("_Server", bound="LocalServer")


class Connections:
    """The tasks that serve connections, each with the writer of its own.

    asyncio itself keeps no task that waits for another connection than the one it serves: when the
    client has left, it is collected as garbage, and fails whatever test runs by then.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, work: Coroutine[Any, Any, None], writer: asyncio.StreamWriter) -> None:
        """Run `work`, then close the connection."""

        def close(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                writer.transport.abort()  # what is to be sent yet would keep it open
            else:
                writer.close()

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(close)

    async def end(self) -> None:
        """Break off those that are open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class LocalServer:
    """Serves each connection as `serve` of a subclass says; an async context manager.

    `connections` counts those that were made. With `tls` they are encrypted.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self._tls = tls
        self._serving = Connections()

    async def __aenter__(self: _Server) -> _Server:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.drop_connections()

    async def drop_connections(self) -> None:
        """Close all connections, also those that are idle."""
        await self._serving.end()

    @property
    def endpoint(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[Any, Any, None]:
        """Serve a connection, which is closed at the end; called as it is made."""
        raise NotImplementedError

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.serve(self.serve(reader, writer), writer)
