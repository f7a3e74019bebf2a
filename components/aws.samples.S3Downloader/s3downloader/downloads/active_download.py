"""What this process has of a download: its record, its progress, and the task that runs it."""

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
    """Measures the progress of a download in bytes, and its rate over the last ten seconds."""

    def __init__(self, clock: Clock, bytes_done: int = 0) -> None:
        self._clock = clock
        self._peak = bytes_done
        self._finished = 0
        self._in_flight = 0
        self._samples: deque[tuple[float, int]] = deque()

    @property
    def bytes_done(self) -> int:
        """The highest value of `bytes_on_disk` so far. It does not fall if a file starts again."""
        return self._peak

    @property
    def bytes_finished(self) -> int:
        """The bytes of finished files."""
        return self._finished

    @property
    def bytes_on_disk(self) -> int:
        """The bytes of finished and unfinished files that are on disk now."""
        return self._finished + self._in_flight

    def restart(self, finished: int, *, keep_peak: bool) -> None:
        """Start again with `finished` bytes of finished files, and none of unfinished ones.

        `keep_peak` says that `bytes_done` must not fall.
        """
        self._finished, self._in_flight = finished, 0
        self._peak = max(self._peak, finished) if keep_peak else finished
        self.restart_rate()

    def add_finished(self, size: int) -> None:
        """Count a finished file of `size` bytes, or several."""
        self._finished += size
        self.progress(max(0, self._in_flight - size))

    def progress(self, in_flight: int) -> None:
        """Set the bytes of unfinished files that are on disk now."""
        self._in_flight = in_flight
        self._peak = max(self._peak, self.bytes_on_disk)
        self._sample()

    def restart_rate(self) -> None:
        """Measure the rate from now on."""
        self._samples.clear()
        self._sample()

    def bytes_per_second(self) -> float:
        """Return the mean rate over the last ten seconds."""
        now = self._clock.monotonic()
        self._trim(now)
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        return max(0.0, (self.bytes_on_disk - before) / max(now - since, 0.001))

    def _sample(self) -> None:
        now = self._clock.monotonic()
        self._trim(now)
        self._samples.append((now, self.bytes_on_disk))

    def _trim(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW:
            self._samples.popleft()


class ActiveDownload:
    """A download in this process. Hold `lock` to decide about its state.

    Only the StateMachine changes the record and its times, by `set_record`, `enter_state` and
    `count_from`.
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
        """Held while a change of the record is written to disk."""
        self.task: asyncio.Task[None] | None = None
        self.share: Share | None = None
        """Its share of the bandwidth while it runs."""
        self.failures_in_a_row = 0
        self.restarts = 0
        """How often it has started again, since the start of this process or the last resume,
        because something removed its files."""
        self.space_reserved = download.started
        """Whether the disk space that it still needs is promised to it."""

    @property
    def download(self) -> Download:
        """The record as it is now. The database has it as of the last recorded change."""
        return self._download

    @property
    def entered(self) -> float | None:
        """When it entered its state in this process, by the monotonic clock. Otherwise None."""
        return self._entered

    def seconds(self, now: float) -> float:
        """Return the seconds of work, with those that are not in the record yet."""
        return self._download.seconds + _since(self._working_since, now)

    def active_seconds(self, now: float) -> float:
        """Return the seconds in active states, with those that are not in the record yet."""
        return self._download.active_seconds + _since(self._active_since, now)

    @property
    def changes_with_time(self) -> bool:
        """Whether its record changes with time: it is working, or its timeout is running."""
        timed = self._active_since is not None and self._download.options.timeout is not None
        return timed or self._working_since is not None

    def set_record(self, download: Download) -> None:
        """Set the changed record. Its state is the same."""
        self._download = download

    def enter_state(self, download: Download, now: float) -> None:
        """Set the record with a new state, whose times count from `now`."""
        self._download = download
        self._entered = now
        self._working_since = now if download.state in _WORKING else None
        self._active_since = now if download.state in ACTIVE else None

    def count_from(self, now: float) -> None:
        """Count times from `now` on: the record has those before."""
        if self._working_since is not None:
            self._working_since = now
        if self._active_since is not None:
            self._active_since = now


def _since(beginning: float | None, now: float) -> float:
    return 0.0 if beginning is None else now - beginning
