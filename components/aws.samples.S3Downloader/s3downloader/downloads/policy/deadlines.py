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

    def changed(self, entry: ActiveDownload) -> None:
        """Look at a download again: it came, or entered another state."""
        if entry.download.options.timeout is None:
            return
        if self._ends(entry):
            self._running.add(entry)
        else:
            self._running.discard(entry)
        self._changed.set()

    async def watch(self, end: Callable[[ActiveDownload], Awaitable[None]]) -> None:
        """Have each download whose time is over ended by `end`, until cancelled."""
        while True:
            self._changed.clear()
            left = {entry: self._left(entry) for entry in self._running}
            over = [entry for entry, seconds in left.items() if seconds <= 0]
            for entry in over:
                await end(entry)
            if any(self.is_over(entry) for entry in over):
                await self._clock.sleep(_TRY_AGAIN)  # its end could not be written
            elif not over and left:
                await first_of(self._clock.sleep(min(left.values())), self._changed.wait())
            elif not over:
                await self._changed.wait()

    def is_over(self, entry: ActiveDownload) -> bool:
        """Tell whether the time of a download that may be ended is over."""
        return self._ends(entry) and self._left(entry) <= 0

    def _ends(self, entry: ActiveDownload) -> bool:
        return entry.download.state in _ENDS and entry.download.options.timeout is not None

    def _left(self, entry: ActiveDownload) -> float:
        assert entry.download.options.timeout is not None
        active = entry.download.active_seconds + entry.active(self._clock.monotonic())
        return entry.download.options.timeout - active


def overrun(entry: ActiveDownload) -> DownloaderError:
    """Return why a download whose time is over ends."""
    timeout = entry.download.options.timeout
    return DownloaderError(
        ErrorCode.TIMEOUT,
        f"the download did not complete within its timeout of {timeout:g} s; what has arrived is"
        " kept: resume to go on for as long again",
        timeout=timeout,
    )
