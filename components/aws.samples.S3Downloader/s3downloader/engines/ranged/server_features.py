"""What the responses of a server have shown of it, for as long as the engine lives."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from ...core.clock import Clock

__all__ = ["RangeSupport", "ServerFeatures"]

log = logging.getLogger(__name__)

_REMEMBERED = 3_600.0
"""Seconds after which a store is asked for ranges again: a proxy before it may be gone."""


class RangeSupport:
    """Whether a server honors Range. Until that is known, one request for a range goes alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_honored = False
        self._ignored_until = float("-inf")
        self._first: asyncio.Event | None = None

    @property
    def is_ignored(self) -> bool:
        """Whether the store is to be asked for whole objects only."""
        return self._clock.monotonic() < self._ignored_until

    async def acquire(self) -> bool:
        """Return when a range may be asked for, and whether this is the request that finds out.

        That one calls `release` when it is over.
        """
        if self._is_honored or self.is_ignored:
            return False
        if self._first:
            await self._first.wait()
            return False
        self._first = asyncio.Event()
        return True

    def release(self) -> None:
        """Let the requests go that wait for this one, whatever it found out."""
        if self._first:
            self._first.set()
            self._first = None

    def on_honored(self) -> None:
        """A response had the range that was asked for."""
        self._is_honored = True
        self.release()

    def on_ignored(self) -> None:
        """A response had other bytes."""
        if not self.is_ignored:
            log.warning("the store does not heed Range: objects come whole, one request each")
        self._is_honored = False
        self._ignored_until = self._clock.monotonic() + _REMEMBERED


class ServerFeatures:
    """What all fetches of an engine share."""

    def __init__(self, clock: Clock) -> None:
        self.ranges = RangeSupport(clock)
        self.unlike_listed: set[str] = set()
        """Roots of sources whose objects have other validators than their listing tells."""
        self.broken: Counter[tuple[str, int]] = Counter()
        """How often a file could not be continued, by download and number."""
