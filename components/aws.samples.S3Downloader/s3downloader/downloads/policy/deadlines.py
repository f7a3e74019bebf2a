"""Ends downloads that exceed their `timeout`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ...core.aio import first_of
from ...core.clock import Clock
from ...core.errors import DownloaderError, ErrorCode
from ...core.records import ACTIVE, State
from ..active_download import ActiveDownload

__all__ = ["Deadlines", "timeout_error"]

_TRY_AGAIN = 10.0

_ENDS = ACTIVE - {State.PUBLISHING}
"""States that a timeout ends. Publishing is always completed."""


class Deadlines:
    """Watches how long downloads with a timeout have been active."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: set[ActiveDownload] = set()
        self._changed = asyncio.Event()

    def changed(self, active: ActiveDownload) -> None:
        """Watch a download, or stop watching it: it is new, or has another state."""
        if active.download.options.timeout is None:
            return
        if self._has_deadline(active):
            self._running.add(active)
        else:
            self._running.discard(active)
        self._changed.set()

    async def watch(self, end: Callable[[ActiveDownload], Awaitable[None]]) -> None:
        """Call `end` for each download that exceeds its timeout. Runs until cancelled."""
        while True:
            self._changed.clear()
            left = {active: self._seconds_left(active) for active in self._running}
            over = [active for active, seconds in left.items() if seconds <= 0]
            for active in over:
                await end(active)
            if any(self.is_over(active) for active in over):
                await self._clock.sleep(_TRY_AGAIN)  # its new state could not be recorded
            elif not over and left:
                await first_of(self._clock.sleep(min(left.values())), self._changed.wait())
            elif not over:
                await self._changed.wait()

    def is_over(self, active: ActiveDownload) -> bool:
        """Tell whether a download exceeds its timeout, in a state that a timeout ends."""
        return self._has_deadline(active) and self._seconds_left(active) <= 0

    def _has_deadline(self, active: ActiveDownload) -> bool:
        return active.download.state in _ENDS and active.download.options.timeout is not None

    def _seconds_left(self, active: ActiveDownload) -> float:
        assert active.download.options.timeout is not None
        return active.download.options.timeout - active.active_seconds(self._clock.monotonic())


def timeout_error(active: ActiveDownload) -> DownloaderError:
    """Return the error of a download that exceeds its timeout."""
    timeout = active.download.options.timeout
    return DownloaderError(
        ErrorCode.TIMEOUT,
        f"the download did not complete within its timeout of {timeout:g} s; what has arrived is"
        " kept; resume to continue for the same time again",
        timeout=timeout,
    )
