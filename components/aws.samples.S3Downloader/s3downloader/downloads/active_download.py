"""A download that is alive in this process: its record, its progress, the task working on it."""

from __future__ import annotations

import asyncio
from collections import deque

from ..core.clock import Clock
from ..core.records import ACTIVE, Download, State
from ..core.throttle import Share

__all__ = ["ActiveDownload", "Meter"]

_WINDOW = 10.0
_WORKING = frozenset({State.PLANNING, State.DOWNLOADING, State.VERIFYING, State.PUBLISHING})


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
        self.restart_rate()

    def settle(self, size: int) -> None:
        """So many more bytes belong to finished files now."""
        self._settled += size
        self.progress(max(0, self._in_flight - size))

    def progress(self, in_flight: int) -> None:
        """So many bytes of unfinished files are there now."""
        self._in_flight = in_flight
        self._peak = max(self._peak, self.bytes_there)
        self._sample()

    def restart_rate(self) -> None:
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
    """The live side of a Download. `lock` is held by whoever decides about its state.

    The record and the times that go with it are changed by the StateMachine alone, with
    `set_record`, `enter_state` and `count_from`.
    """

    def __init__(self, download: Download, clock: Clock) -> None:
        self._download = download
        self._entered: float | None = None
        self._working_since: float | None = None
        self._active_since = clock.monotonic() if download.state in ACTIVE else None
        self.target = download.target
        self.meter = Meter(clock, download.bytes_done)
        self.lock = asyncio.Lock()
        self.writing = asyncio.Lock()
        """Held while a change of the record is on its way to disk."""
        self.task: asyncio.Task[None] | None = None
        self.share: Share | None = None
        """Its part of the bandwidth while it works."""
        self.failures_in_a_row = 0
        self.restarts = 0
        """How often it has begun again, in this process, because something removed its files."""
        self.has_room = download.started
        """Whether what it has still to bring is promised to it, and to no other."""

    @property
    def download(self) -> Download:
        """The record as it is now; the store has it as of the last change that was written."""
        return self._download

    @property
    def entered(self) -> float | None:
        """When this process brought it into its state, by the monotonic clock."""
        return self._entered

    def seconds(self, now: float) -> float:
        """Return the seconds of work, those that are not in the record yet included."""
        return self._download.seconds + _since(self._working_since, now)

    def active_seconds(self, now: float) -> float:
        """Return the seconds in active states, those that are not in the record yet included."""
        return self._download.active_seconds + _since(self._active_since, now)

    @property
    def ages(self) -> bool:
        """Whether its record changes with time: it is at work, or its timeout runs."""
        timed = self._active_since is not None and self._download.options.timeout is not None
        return timed or self._working_since is not None

    def set_record(self, download: Download) -> None:
        """Take a changed record of the same state."""
        self._download = download

    def enter_state(self, download: Download, now: float) -> None:
        """Take the record of a state that it has entered; its times count from `now`."""
        self._download = download
        self._entered = now
        self._working_since = now if download.state in _WORKING else None
        self._active_since = now if download.state in ACTIVE else None

    def count_from(self, now: float) -> None:
        """Count times from `now`: those before are in the record."""
        if self._working_since is not None:
            self._working_since = now
        if self._active_since is not None:
            self._active_since = now


def _since(beginning: float | None, now: float) -> float:
    return 0.0 if beginning is None else now - beginning
