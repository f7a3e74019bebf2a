"""How many requests are under way at once, and how long one that failed waits for the next."""

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
"""More requests than this are never under way for one download: each has a thread and a buffer."""

_AT_FIRST = 16
_LATE = 0.05  # seconds to the first byte that leave room on the link for another request
_THROTTLE_INTERVAL = 1.0
_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 60.0
_MOST_TRIES = {
    ErrorCode.NETWORK_UNREACHABLE: 4,
    ErrorCode.STALLED: 4,
    ErrorCode.CREDENTIALS_UNAVAILABLE: 1,
    ErrorCode.TIMEOUT: 100,
}
"""How often a fault is worth another try, if `retry_count` allows it; any other is not."""


class ConcurrencyLimiter:
    """Slots for requests: at first few, more while the store is slow to begin, fewer when it balks.

    There are never more than `ceiling`.
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
        """Hold a slot, once it is this one's turn."""
        if self._waiting or self._in_use >= self.limit:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self.release()
                elif waiter in self._waiting:  # or it was passed over meanwhile
                    self._waiting.remove(waiter)
                raise
        else:
            self._in_use += 1
        try:
            yield
        finally:
            self.release()

    async def wait_for_slot(self) -> None:
        """Return once a slot is free and nobody waits for it."""
        while self._waiting or self._in_use >= self.limit:
            self._vacant.clear()
            await self._vacant.wait()

    def acquire(self) -> None:
        """Take a vacant slot, to be released later."""
        self._in_use += 1

    def release(self) -> None:
        """Give a slot back."""
        self._in_use -= 1
        self._wake_waiters()

    def on_throttled(self) -> None:
        """The store is too busy: let half as many requests go on, at most once a second."""
        now = self._clock.monotonic()
        if now - self._throttled_at >= _THROTTLE_INTERVAL:
            self._throttled_at = now
            self.limit = max(1, self.limit // 2)
            self._successes = 0

    def on_success(self, first_byte: float) -> None:
        """A request went well; its first byte came after so many seconds."""
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
    """Decides what becomes of a request that failed, try after try without progress."""

    def __init__(
        self,
        retry_count: int,
        clock: Clock,
        on_wait: Callable[[DownloaderError, float], None] = lambda *_: None,
    ) -> None:
        """`on_wait` is told of each fault that is worth another try, and of the seconds to it."""
        self._retry_count = retry_count
        self._clock = clock
        self._on_wait = on_wait
        self._tries = 0

    def progress(self) -> None:
        """Something has arrived: the tries count anew."""
        self._tries = 0

    async def after(self, error: DownloaderError) -> None:
        """Return when it is time to ask again, or raise `error` where that would be in vain.

        The waits double with each try, with jitter, to at most a minute; a store that asks for
        more time gets that, to at most a minute too. Where the network is away, a few tries show
        it: then the download waits as a whole.
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

    async def until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, or raise the error that is left."""
        while True:
            try:
                return await ask()
            except DownloaderError as error:
                await self.after(error)
