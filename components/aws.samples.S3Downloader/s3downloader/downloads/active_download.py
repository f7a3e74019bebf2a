"""A download that is alive in this process: its record, its progress, the task working on it."""

from __future__ import annotations

import asyncio
from collections import deque

from ..core.clock import Clock
from ..core.records import ACTIVE, Download
from ..core.throttle import Share

__all__ = ["ActiveDownload", "Meter"]

_WINDOW = 10.0


class Meter:
    """How far a download is, in bytes, and how fast it has been in the last ten seconds."""

    def __init__(self, clock: Clock, bytes_done: int = 0) -> None:
        self._clock = clock
        self._peak = bytes_done
        self._settled = 0
        self._in_flight = 0
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def bytes_done(self) -> int:
        """The most that was ever there; an engine that starts a file again does not lower it."""
        return self._peak

    @property
    def bytes_settled(self) -> int:
        """What belongs to files that are whole."""
        return self._settled

    @property
    def bytes_there(self) -> int:
        """What is on disk now."""
        return self._settled + self._in_flight

    def restart(self, settled: int, *, keep_peak: bool) -> None:
        """Begin with `settled` bytes of finished files."""
        self._settled, self._in_flight = settled, 0
        self._peak = max(self._peak, settled) if keep_peak else settled
        self.forget_rate()

    def settle(self, size: int) -> None:
        """So many more bytes belong to finished files now."""
        self._settled += size
        self.progress(max(0, self._in_flight - size))

    def progress(self, in_flight: int) -> None:
        """So many bytes of unfinished files are there now."""
        self._in_flight = in_flight
        self._peak = max(self._peak, self.bytes_there)
        self._sample()

    def forget_rate(self) -> None:
        """Count the rate from now on."""
        self._samples.clear()
        self._sample()

    def bytes_per_second(self) -> float:
        """Return the mean rate over the window."""
        now = self._clock.monotonic()
        self._trim(now)
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        return max(0.0, (self.bytes_there - before) / max(now - since, 0.001))

    def _sample(self) -> None:
        now = self._clock.monotonic()
        self._trim(now)
        self._samples.append((now, self.bytes_there))

    def _trim(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW:
            self._samples.popleft()


class ActiveDownload:
    """The live side of a Download. `lock` is held by whoever decides about its state."""

    def __init__(self, download: Download, clock: Clock) -> None:
        self.download = download
        self.target = download.target
        self.meter = Meter(clock, download.bytes_done)
        self.lock = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.working_since: float | None = None
        self.entered: float | None = None
        """When this process brought it into its state, by the monotonic clock."""
        self.writing = asyncio.Lock()
        """Held while a change of the record is on its way to disk."""
        self.active_since = clock.monotonic() if download.state in ACTIVE else None
        """Since when its time in active states is not in the record yet."""
        self.share: Share | None = None
        """Its part of the bandwidth while it works."""
        self.failures_in_a_row = 0
        self.restarts = 0
        """How often it has begun again, in this process, because something removed its files."""
        self.has_room = download.started
        """Whether what it has still to bring is promised to it, and to no other."""

    def unsaved_active_seconds(self, now: float) -> float:
        """Return the seconds in active states that are not in the record yet."""
        return 0.0 if self.active_since is None else now - self.active_since
