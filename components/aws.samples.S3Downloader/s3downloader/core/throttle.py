"""Divides the bandwidth fairly among the running downloads.

Each open share earns credit, in bytes, at its rate, and each take spends credit. The rates are
max-min fair: a share gets no more than its own limit, and what it does not use is divided evenly
among the others. Credit starts at zero. It is bounded, so that a share cannot save up a burst. The
bound is the size of the last take, so that a reader earns the next take while it reads, plus what
the share earns in a quarter of a second, because timers are late.
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
"""Seconds of its rate that a share may earn in addition to a take."""

_IDLE = 30.0
"""Seconds after its last take for which a share earns credit, and keeps it."""

_SHORTEST_SLEEP, _LONGEST_SLEEP = 0.01, 1.0
"""Bounds of a sleep, in seconds. The shortest lets small takes through in groups. The longest is
the time after which a changed limit takes effect at the latest."""


class Throttle:
    """Divides the device's bandwidth among shares. Used on the event loop's thread only."""

    def __init__(self, clock: Clock, limit: Callable[[], int]) -> None:
        """`limit` returns the device's limit in bytes per second, 0 for none. It may change."""
        self.clock = clock
        self.limit = limit
        self.changes = asyncio.Event()
        """Set, and cleared at once, when a limit changes and when a share is closed."""
        self._shares: set[Share] = set()
        self._counted_at = clock.monotonic()
        self.counted_limit = limit()
        """The device's limit since the last count."""

    def open(self, limit: int | None = None) -> Share:
        """Return a new share. `limit` is its own, in bytes per second; None or 0 for none."""
        self.count()
        share = Share(self, limit)
        self._shares.add(share)
        return share

    def remove(self, share: Share) -> None:
        """Remove a closed share. The others get its bandwidth."""
        self.count()
        self._shares.discard(share)
        self.refresh()

    def refresh(self) -> None:
        """Apply changed limits at once, also to waiting takes."""
        self.count()
        self.pulse()

    def pulse(self) -> None:
        """Wake the waiting takes, so that they calculate their time again."""
        self.changes.set()
        self.changes.clear()

    def count(self) -> None:
        """Add to every share's credit what it has earned since the last count."""
        now = self.clock.monotonic()
        passed, since = now - self._counted_at, self._counted_at
        while passed > 0 and (earning := self._set_rates(since)):
            step = min(passed, *(share.missing / share.rate for share in earning))
            for share in earning:
                share.credit += share.rate * step
            passed -= step
        self._counted_at, self.counted_limit = now, self.limit()

    def next_change(self, waiting: Share) -> float:
        """Return the seconds until `waiting` has enough credit, or its rate may change."""
        earning = self._set_rates(self._counted_at)
        moments = [share.missing / share.rate for share in earning if not share.waiting]
        if waiting.rate:
            moments.append((waiting.size - waiting.credit) / waiting.rate)
        return min(_LONGEST_SLEEP, max(_SHORTEST_SLEEP, min(moments, default=_LONGEST_SLEEP)))

    def burst(self, limit: int) -> float:
        """Return the bytes that a share with this limit may earn in addition to a take."""
        ceiling = min(limit or math.inf, self.counted_limit or math.inf)
        return _SLACK * ceiling / max(1, len(self._shares)) if ceiling < math.inf else 0.0

    def _set_rates(self, now: float) -> list[Share]:
        """Set the rates of all shares at the time `now`. Return the shares that earn credit."""
        earning = [share for share in self._shares if share.earns(now)]
        earning.sort(key=lambda share: share.limit or math.inf)
        left = self.counted_limit or math.inf
        for others, share in zip(range(len(earning) - 1, -1, -1), earning, strict=True):
            share.rate = min(share.limit or math.inf, left / (others + 1))
            left -= share.rate
        return earning


class Share:
    """One download's share of the bandwidth. Close it when the download has ended."""

    def __init__(self, throttle: Throttle, limit: int | None) -> None:
        self.credit = 0.0
        self.rate = 0.0
        self.size = 0
        """The bytes of the waiting take, or else of the last one."""
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
        """The share's own limit in bytes per second, 0 for none. It may be set at any time."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._throttle.count()
        self._limit = limit or 0
        self._throttle.refresh()

    @property
    def limited(self) -> bool:
        """Whether a limit applies: the share's own or the device's."""
        return bool(self._limit or self._throttle.limit()) and not self._closed

    async def until(self, *, limited: bool) -> None:
        """Wait until `limited` has this value. For a fetch that cannot be throttled as it runs."""
        while self.limited is not limited:
            await self._throttle.changes.wait()

    async def take(self, size: int) -> None:
        """Wait until `size` more bytes may be read. The takes of one share wait in order.

        May be cancelled. The credit earned so far then serves the next take.
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
        """Release the bandwidth. Waiting takes, and later ones, return at once."""
        self._closed = True
        self._throttle.remove(self)

    @property
    def missing(self) -> float:
        """The bytes that the share may earn until it reaches its bound."""
        return self.size + self._throttle.burst(self._limit) - self.credit

    def earns(self, now: float) -> bool:
        """Tell whether the share earns credit from the time `now` on."""
        if self._closed or not (self._limit or self._throttle.counted_limit):
            return False
        return self.missing >= 1 and (self.waiting or not self._is_idle(now))

    def _is_idle(self, now: float) -> bool:
        return now - self._last_used > _IDLE
