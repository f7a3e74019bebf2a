"""Time, passed in wherever it matters, so that tests of waiting take none."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Where code that waits gets its time from. All in seconds."""

    def now(self) -> float:
        """Return the time since the epoch."""

    def monotonic(self) -> float:
        """Return a time that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after that time."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Return the time since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return a time that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after that time."""
        await asyncio.sleep(seconds)
