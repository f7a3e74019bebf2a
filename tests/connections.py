"""What serves the connections of a test's own server, and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Connections"]


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
