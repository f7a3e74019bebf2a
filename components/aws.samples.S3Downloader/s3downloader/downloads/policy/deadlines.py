"""Ends downloads that take longer than their `timeout`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...core.aio import first_of
from ...core.clock import Clock
from ...core.errors import DownloaderError, ErrorCode
from ...core.records import ACTIVE, State
from ..active_download import ActiveDownload

__all__ = ["Deadlines", "overrun"]

_TRY_AGAIN = 10.0

_ENDS = ACTIVE - {State.PUBLISHING}
"""What a timeout ends: publishing, once begun, runs to its end."""


class Deadlines:
    """Watches the time that downloads with a timeout have been active."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: set[ActiveDownload] = set()
        self._changed = asyncio.Event()

    def changed(self, active: ActiveDownload) -> None:
        """Look at a download again: it came, or entered another state."""
        if active.download.options.timeout is None:
            return
        if self._has_deadline(active):
            self._running.add(active)
        else:
            self._running.discard(active)
        self._changed.set()

    async def watch(self, end: Callable[[ActiveDownload], Awaitable[None]]) -> None:
        """Have each download whose time is over ended by `end`, until cancelled."""
        while True:
            self._changed.clear()
            left = {active: self._seconds_left(active) for active in self._running}
            over = [active for active, seconds in left.items() if seconds <= 0]
            for active in over:
                await end(active)
            if any(self.is_over(active) for active in over):
                await self._clock.sleep(_TRY_AGAIN)  # its end could not be written
            elif not over and left:
                await first_of(self._clock.sleep(min(left.values())), self._changed.wait())
            elif not over:
                await self._changed.wait()

    def is_over(self, active: ActiveDownload) -> bool:
        """Tell whether the time of a download that may be ended is over."""
        return self._has_deadline(active) and self._seconds_left(active) <= 0

    def _has_deadline(self, active: ActiveDownload) -> bool:
        return active.download.state in _ENDS and active.download.options.timeout is not None

    def _seconds_left(self, active: ActiveDownload) -> float:
        assert active.download.options.timeout is not None
        return active.download.options.timeout - active.active_seconds(self._clock.monotonic())


def overrun(active: ActiveDownload) -> DownloaderError:
    """Return why a download whose time is over ends."""
    timeout = active.download.options.timeout
    return DownloaderError(
        ErrorCode.TIMEOUT,
        f"the download did not complete within its timeout of {timeout:g} s; what has arrived is"
        " kept: resume to go on for as long again",
        timeout=timeout,
    )
