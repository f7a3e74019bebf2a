"""Bandwidth, shared fairly between the downloads that are under way.

Each open share earns credit at its rate, and a take spends it. The rates are max-min fair: a share
gets no more than its own limit, and what it does not use goes to the others in equal parts. Credit
begins at nothing and is bounded, so that no share saves up a burst: by the last take, which lets a
reader earn the next take while it reads, and by a quarter of a second for the timers' lateness.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from .aio import first_of
from .clock import Clock

__all__ = ["Share", "Throttle"]

_SLACK = 0.25
"""Seconds of a share's rate that it may earn beyond a take."""

_IDLE = 30.0
"""Seconds after its last use for which a share goes on earning, and keeps what it earned."""

_SHORTEST_SLEEP, _LONGEST_SLEEP = 0.01, 1.0
"""Seconds. Short takes are let through in groups; a changed limit is seen within the longest."""


class Throttle:
    """The device's bandwidth. Used on the event loop's thread only."""

    def __init__(self, clock: Clock, limit: Callable[[], int]) -> None:
        """Share out what `limit` returns, in bytes per second, 0 for any rate; it may change."""
        self.clock = clock
        self.limit = limit
        self.changes = asyncio.Event()
        """Pulses when limits change and when a share becomes free."""
        self._shares: set[Share] = set()
        self._counted_at = clock.monotonic()
        self.counted_limit = limit()
        """The limit that has held since the last count."""

    def open(self, limit: int | None = None) -> Share:
        """Return a share whose own limit is so many bytes per second; None or 0 for any rate."""
        self.count()
        share = Share(self, limit)
        self._shares.add(share)
        return share

    def forget(self, share: Share) -> None:
        """Give what a closed share had to the others."""
        self.count()
        self._shares.discard(share)
        self.refresh()

    def refresh(self) -> None:
        """Let changed limits take effect at once, also on takes that wait."""
        self.count()
        self.pulse()

    def pulse(self) -> None:
        """Wake those who wait, to look again when their turn comes."""
        self.changes.set()
        self.changes.clear()

    def count(self) -> None:
        """Credit every share with what it earned since the last count."""
        now = self.clock.monotonic()
        passed, since = now - self._counted_at, self._counted_at
        while passed > 0 and (earning := self._set_rates(since)):
            step = min(passed, *(share.missing / share.rate for share in earning))
            for share in earning:
                share.credit += share.rate * step
            passed -= step
        self._counted_at, self.counted_limit = now, self.limit()

    def next_change(self, waiting: Share) -> float:
        """Return the seconds until `waiting` has what it waits for, or its rate may change."""
        earning = self._set_rates(self._counted_at)
        moments = [share.missing / share.rate for share in earning if not share.waiting]
        if waiting.rate:
            moments.append((waiting.size - waiting.credit) / waiting.rate)
        return min(_LONGEST_SLEEP, max(_SHORTEST_SLEEP, min(moments, default=_LONGEST_SLEEP)))

    def burst(self, limit: int) -> float:
        """Return the bytes that a share with that own limit may earn beyond a take."""
        ceiling = min(limit or math.inf, self.counted_limit or math.inf)
        return _SLACK * ceiling / max(1, len(self._shares)) if ceiling < math.inf else 0.0

    def _set_rates(self, now: float) -> list[Share]:
        """Set the rates that hold at `now`; return the shares that earn."""
        earning = [share for share in self._shares if share.earns(now)]
        earning.sort(key=lambda share: share.limit or math.inf)
        left = self.counted_limit or math.inf
        for others, share in zip(range(len(earning) - 1, -1, -1), earning, strict=True):
            share.rate = min(share.limit or math.inf, left / (others + 1))
            left -= share.rate
        return earning


class Share:
    """One download's part of the bandwidth; to be closed when it has ended."""

    def __init__(self, throttle: Throttle, limit: int | None) -> None:
        self.credit = 0.0
        self.rate = 0.0
        self.size = 0
        """The bytes of the take that waits, or else of the last one."""
        self.waiting = False
        self._throttle = throttle
        self._limit = limit or 0
        self._last_used = -math.inf
        self._turn = asyncio.Lock()
        self._closed = False

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def limit(self) -> int:
        """The share's own limit in bytes per second, 0 for none. May be set at any time."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._throttle.count()
        self._limit = limit or 0
        self._throttle.refresh()

    @property
    def limited(self) -> bool:
        """Whether a limit holds, its own or the device's."""
        return bool(self._limit or self._throttle.limit()) and not self._closed

    async def until(self, *, limited: bool) -> None:
        """Return once `limited` is so: for a fetch that cannot be throttled while it runs."""
        while self.limited is not limited:
            await self._throttle.changes.wait()

    async def take(self, size: int) -> None:
        """Return when `size` more bytes may be taken; takes of one share go in order.

        May be cancelled: what was earned for it serves the next take.
        """
        if not self.limited:
            return
        async with self._turn:
            self._throttle.count()
            if self._is_idle(self._throttle.clock.monotonic()):
                self.credit = 0.0
            self.size, self.waiting = size, True
            try:
                await self._wait_for_credit()
                self.credit = max(0.0, self.credit - size)
            except asyncio.CancelledError:
                self._throttle.count()
                self.size = 0
                self._throttle.pulse()
                raise
            finally:
                self.waiting = False
                self._last_used = self._throttle.clock.monotonic()

    async def _wait_for_credit(self) -> None:
        throttle = self._throttle
        while self.limited and self.size - self.credit >= 1:
            pause = throttle.clock.sleep(throttle.next_change(self))
            await first_of(pause, throttle.changes.wait())
            throttle.count()

    def close(self) -> None:
        """Leave the bandwidth to others. Takes that still wait, or come later, are let through."""
        self._closed = True
        self._throttle.forget(self)

    @property
    def missing(self) -> float:
        """The bytes that the share may still earn."""
        return self.size + self._throttle.burst(self._limit) - self.credit

    def earns(self, now: float) -> bool:
        """Tell whether the share has earned credit since the last count."""
        if self._closed or not (self._limit or self._throttle.counted_limit):
            return False
        return self.missing >= 1 and (self.waiting or not self._is_idle(now))

    def _is_idle(self, now: float) -> bool:
        return now - self._last_used > _IDLE
