"""Limits how many requests run at once, and decides when a failed request is repeated."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from ...core.backoff import pause_after
from ...core.clock import Clock
from ...core.errors import DownloaderError, ErrorCode

__all__ = ["REQUESTS", "ConcurrencyLimiter", "Retries"]

T = TypeVar("T")

REQUESTS = 64
"""The most requests that one download runs at once. Each has a thread and a buffer."""

_AT_FIRST = 16
_LATE = 0.05  # seconds to the first byte; if it takes longer, one more request uses the link better
_THROTTLE_INTERVAL = 1.0
_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 60.0
_MOST_TRIES = {
    ErrorCode.NETWORK_UNREACHABLE: 4,
    ErrorCode.STALLED: 4,
    ErrorCode.CREDENTIALS_UNAVAILABLE: 1,
    ErrorCode.TIMEOUT: 100,
}
"""How often a request is repeated after each error, if `retry_count` allows it. Others: never."""


class ConcurrencyLimiter:
    """Limits the number of requests that run at once. Each request needs a slot.

    There are few slots at first. Their number grows while responses begin late, and is halved when
    the object store is too busy. It is at most `ceiling`.
    """

    def __init__(self, ceiling: int, clock: Clock) -> None:
        self._ceiling = min(ceiling, REQUESTS)
        self.limit = min(self._ceiling, _AT_FIRST)
        self._clock = clock
        self._in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._vacant = asyncio.Event()
        self._successes = 0
        self._throttled_at = float("-inf")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it while the context is active. First come, first served."""
        if self._waiting or self._in_use >= self.limit:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.release()
                elif waiter in self._waiting:  # it is not if _wake_waiters has removed it
                    self._waiting.remove(waiter)
                raise
        else:
            self._in_use += 1
        try:
            yield
        finally:
            self.release()

    async def wait_for_slot(self) -> None:
        """Wait until a slot is free that no other request waits for."""
        while self._waiting or self._in_use >= self.limit:
            self._vacant.clear()
            await self._vacant.wait()

    def acquire(self) -> None:
        """Take a slot that is free. It must be released later."""
        self._in_use += 1

    def release(self) -> None:
        """Release a slot."""
        self._in_use -= 1
        self._wake_waiters()

    def on_throttled(self) -> None:
        """Halve the number of slots, at most once a second: the object store is too busy."""
        now = self._clock.monotonic()
        if now - self._throttled_at >= _THROTTLE_INTERVAL:
            self._throttled_at = now
            self.limit = max(1, self.limit // 2)
            self._successes = 0

    def on_success(self, first_byte: float) -> None:
        """Record that a request succeeded, whose first byte came after `first_byte` seconds.

        After enough successes, there is one more slot.
        """
        if self.limit < min(self._ceiling, _AT_FIRST) or first_byte > _LATE:
            self._successes += 1
        if self._successes > self.limit and self.limit < self._ceiling:
            self._successes = 0
            self.limit += 1
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        while self._waiting and self._in_use < self.limit:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._in_use += 1
                waiter.set_result(None)
        if not self._waiting and self._in_use < self.limit:
            self._vacant.set()


class Retries:
    """Decides whether and when a failed request is repeated. Counts attempts without progress."""

    def __init__(
        self,
        retry_count: int,
        clock: Clock,
        on_wait: Callable[[DownloaderError, float], None] = lambda *_: None,
    ) -> None:
        """`on_wait` is called before each pause, with the error and the seconds of the pause."""
        self._retry_count = retry_count
        self._clock = clock
        self._on_wait = on_wait
        self._tries = 0

    def on_progress(self) -> None:
        """Record that bytes have arrived, and count attempts from 0 again."""
        self._tries = 0

    async def wait_or_raise(self, error: DownloaderError) -> None:
        """Wait until the request may be repeated, or raise `error` if it should not be.

        Pauses double with each attempt, with jitter, up to a minute. A Retry-After of the object
        store makes a pause longer, also up to a minute. After a few failures of the network,
        `error` is raised, and the download waits as a whole.
        """
        self._tries += 1
        most = min(self._retry_count, _MOST_TRIES.get(error.code, 0))
        if self._tries > most:
            raise error
        wait = pause_after(self._tries, _SHORTEST_WAIT, _LONGEST_WAIT)
        asked_for = min(_LONGEST_WAIT, error.details.get("retry_after", 0.0))
        seconds = max(wait, asked_for)
        self._on_wait(error, seconds)
        await self._clock.sleep(seconds)

    async def until_success(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Call `ask` until it succeeds, and return its result. Raises as `wait_or_raise`."""
        while True:
            try:
                return await ask()
            except DownloaderError as error:
                await self.wait_or_raise(error)
