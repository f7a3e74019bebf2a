"""Remembers what responses have shown of a server, for as long as the engine exists."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from ...core.clock import Clock

__all__ = ["RangeSupport", "ServerFeatures"]

log = logging.getLogger(__name__)

_REMEMBERED = 3_600.0
"""Seconds after which ranges are requested again. A proxy that ignored them may be gone by then."""


class RangeSupport:
    """Whether a server honors Range. Until that is known, the first range request runs alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_honored = False
        self._ignored_until = float("-inf")
        self._first: asyncio.Event | None = None

    @property
    def is_ignored(self) -> bool:
        """Whether only complete objects should be requested, because Range is ignored."""
        return self._clock.monotonic() < self._ignored_until

    async def acquire(self) -> bool:
        """Wait until a range may be requested. Return whether this is the first such request.

        If it is, the caller must call `release` when the request has ended.
        """
        if self._is_honored or self.is_ignored:
            return False
        if self._first:
            await self._first.wait()
            return False
        self._first = asyncio.Event()
        return True

    def release(self) -> None:
        """Start the requests that wait for the first one, whatever its result was."""
        if self._first:
            self._first.set()
            self._first = None

    def on_honored(self) -> None:
        """Record that a response had the requested range."""
        self._is_honored = True
        self.release()

    def on_ignored(self) -> None:
        """Record that a response had other bytes than the requested range."""
        if not self.is_ignored:
            log.warning(
                "the object store ignores Range; each object is fetched completely in one request"
            )
        self._is_honored = False
        self._ignored_until = self._clock.monotonic() + _REMEMBERED


class ServerFeatures:
    """What is known of the servers, shared by all fetches of an engine."""

    def __init__(self, clock: Clock) -> None:
        self.ranges = RangeSupport(clock)
        self.unlike_listed: set[str] = set()
        """Roots of sources whose objects have other validators than their listing."""
        self.restarts: Counter[tuple[str, int]] = Counter()
        """How often a file that cannot be continued broke off, by download_id and file number."""
