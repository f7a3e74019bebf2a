"""The clock as an interface. Tests pass their own, so that no test waits for real time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Tells the time and sleeps. All times are in seconds."""

    def now(self) -> float:
        """Return the time since the epoch."""

    def monotonic(self) -> float:
        """Return a time that never goes back. Its start is arbitrary."""

    async def sleep(self, seconds: float) -> None:
        """Wait this number of seconds."""


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> float:
        """Return the time since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return a time that never goes back. Its start is arbitrary."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait this number of seconds."""
        await asyncio.sleep(seconds)
