"""A base class for servers of a test on 127.0.0.1."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Connections", "LocalServer"]

_Server = TypeVar("_Server", bound="LocalServer")


class Connections:
    """The tasks that serve connections.

    asyncio keeps no reference to a task that waits only for another connection than its own. When
    the client has left, such a task is collected as garbage, and fails whatever test runs then.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, work: Coroutine[Any, Any, None], writer: asyncio.StreamWriter) -> None:
        """Run `work` in a task, then close the connection of `writer`."""

        def close(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                writer.transport.abort()  # closing would wait for unsent bytes
            else:
                writer.close()

        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(close)

    async def end(self) -> None:
        """Cancel all tasks, which resets their connections, and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class LocalServer:
    """A server whose subclass implements `serve`; an async context manager.

    `connections` counts all accepted connections. With `tls` they are encrypted.
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
        """Close all connections, also idle ones."""
        await self._serving.end()

    @property
    def endpoint(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Coroutine[Any, Any, None]:
        """Serve a connection.

        It is closed when the coroutine has ended. Called when the connection is accepted.
        """
        raise NotImplementedError

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.serve(self.serve(reader, writer), writer)
