"""The base class of all servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

from ..processes import Process

__all__ = ["Server"]

ServerT = TypeVar("ServerT", bound="Server")


class Server(ABC):
    """A server process that can be stopped and started again on the same ports."""

    _grace = 5.0
    """Seconds between SIGTERM and SIGKILL; 0 sends SIGKILL at once."""

    def __init__(self) -> None:
        self._process: Process | None = None

    @abstractmethod
    async def _launch(self) -> Process:
        """Start the process and wait until it serves."""

    async def start(self) -> None:
        """Start the server and wait until it serves. Raises ProcessError if it does not."""
        self._process = await self._launch()

    async def stop(self) -> None:
        """End the process. The next start uses the same ports."""
        if self._process is not None:
            await self._process.stop(grace=self._grace)
            self._process = None

    async def __aenter__(self: ServerT) -> ServerT:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
