"""The number of concurrent requests, and the waits after failed requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from s3downloader.core.aio import stop
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.engines.ranged.concurrency import REQUESTS, ConcurrencyLimiter, Retries
from tests.support import ManualClock, assert_backs_off, eventually

MIB = 1 << 20


class SlotHolders:
    """Tasks that each request a slot, and hold it until they are released."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self.holding: list[int] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def add(self, *numbers: int) -> None:
        for number in numbers:
            self._tasks[number] = asyncio.create_task(self._hold(number))
        await settled()

    async def _hold(self, number: int) -> None:
        async with self._limiter.slot():
            self.holding.append(number)
            try:
                await asyncio.Event().wait()
            finally:
                self.holding.remove(number)

    async def dismiss(self, *numbers: int) -> None:
        """Release these tasks at once, in this order."""
        for number in numbers:
            self._tasks[number].cancel()
        ended = await asyncio.gather(*map(self._tasks.pop, numbers), return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
        await settled()

    async def leave(self) -> None:
        for task in self._tasks.values():
            await stop(task)


async def settled() -> None:
    """Wait until no task of the event loop can continue at once."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def crowd(limiter: ConcurrencyLimiter) -> AsyncIterator[SlotHolders]:
    everyone = SlotHolders(limiter)
    try:
        yield everyone
    finally:
        await everyone.leave()


def serve_slowly(limiter: ConcurrencyLimiter, times: int) -> None:
    """Let so many requests succeed on a slow link."""
    for _ in range(times):
        limiter.on_success(0.3)


async def test_slots_are_handed_out_in_turn() -> None:
    async with crowd(ConcurrencyLimiter(2, ManualClock())) as everyone:
        await everyone.add(1, 2, 3, 4)
        assert everyone.holding == [1, 2]
        await everyone.dismiss(1)
        assert everyone.holding == [2, 3]
        await everyone.dismiss(2)
        assert everyone.holding == [3, 4]


async def test_who_leaves_the_line_takes_no_slot_along() -> None:
    async with crowd(ConcurrencyLimiter(1, ManualClock())) as everyone:
        await everyone.add(1, 2, 3)
        await everyone.dismiss(2)
        await everyone.dismiss(1)
        assert everyone.holding == [3]


@pytest.mark.parametrize("leaving", [(1, 2), (2, 1)])
async def test_who_leaves_just_as_a_slot_falls_free_ends_quietly(leaving: tuple[int, int]) -> None:
    async with crowd(ConcurrencyLimiter(1, ManualClock())) as everyone:
        await everyone.add(1, 2, 3)
        await everyone.dismiss(*leaving)
        assert everyone.holding == [3]


async def test_a_vacancy_is_told_when_nobody_waits_for_it() -> None:
    limiter = ConcurrencyLimiter(1, ManualClock())
    async with crowd(limiter) as everyone:
        await limiter.wait_for_slot()
        await everyone.add(1, 2)
        waiting = asyncio.create_task(limiter.wait_for_slot())
        await everyone.dismiss(1)
        assert not waiting.done()
        await everyone.dismiss(2)
        assert waiting.done()


async def test_a_slot_that_was_taken_counts() -> None:
    limiter = ConcurrencyLimiter(1, ManualClock())
    async with crowd(limiter) as everyone:
        limiter.acquire()
        await everyone.add(1)
        assert everyone.holding == []
        limiter.release()
        await settled()
        assert everyone.holding == [1]


@pytest.mark.parametrize("ceiling", [1, 3, 16, 64, 256])
def test_the_limit_stays_below_the_ceiling(ceiling: int) -> None:
    limiter = ConcurrencyLimiter(ceiling, ManualClock())
    assert limiter.limit <= ceiling
    serve_slowly(limiter, 10_000)
    assert limiter.limit == min(ceiling, REQUESTS)


def test_a_quick_store_needs_no_more_requests() -> None:
    limiter = ConcurrencyLimiter(256, ManualClock())
    before = limiter.limit
    for _ in range(1_000):
        limiter.on_success(0.001)
    assert limiter.limit == before


def test_requests_are_halved_once_a_second_and_grow_back() -> None:
    clock = ManualClock()
    limiter = ConcurrencyLimiter(16, clock)
    limiter.on_throttled()
    limiter.on_throttled()
    assert limiter.limit == 8
    limits = []
    for _ in range(5):
        clock.time += 1
        limiter.on_throttled()
        limits.append(limiter.limit)
    assert limits == [4, 2, 1, 1, 1]
    for _ in range(1_000):
        limiter.on_success(0.001)
    assert limiter.limit == 16, "what was eased off comes back, whether the store is quick or not"


async def test_who_waits_gets_the_slots_that_grow_back() -> None:
    clock = ManualClock()
    limiter = ConcurrencyLimiter(4, clock)
    async with crowd(limiter) as everyone:
        limiter.on_throttled()
        await everyone.add(1, 2, 3, 4)
        assert everyone.holding == [1, 2]
        serve_slowly(limiter, 3)
        await settled()
        assert everyone.holding == [1, 2, 3]


async def test_easing_takes_no_slot_away_but_hands_fewer_out() -> None:
    limiter = ConcurrencyLimiter(4, ManualClock())
    async with crowd(limiter) as everyone:
        await everyone.add(1, 2, 3, 4, 5)
        limiter.on_throttled()
        await everyone.dismiss(1, 2)
        assert everyone.holding == [3, 4]
        await everyone.dismiss(3)
        assert everyone.holding == [4, 5]


def fault(code: ErrorCode) -> DownloaderError:
    return DownloaderError(code, "so it is")


async def waits(retries: Retries, clock: ManualClock, code: ErrorCode, times: int) -> list[float]:
    """Let a request fail so many times; return the waits before each next attempt."""
    slept = []
    for _ in range(times):
        waiting = asyncio.create_task(retries.wait_or_raise(fault(code)))
        slept.append(await clock.next_sleep())
        clock.wake()
        await waiting
    return slept


async def test_waits_double_with_jitter_to_at_most_a_minute() -> None:
    clock = ManualClock()
    slept = await waits(Retries(20, clock), clock, ErrorCode.TIMEOUT, 20)
    assert_backs_off(slept, 0.1, 60.0)
    assert len(set(slept)) == 20


@pytest.mark.parametrize(
    ("code", "retry_count", "tries"),
    [
        (ErrorCode.TIMEOUT, 10, 10),
        (ErrorCode.TIMEOUT, 0, 0),
        (ErrorCode.NETWORK_UNREACHABLE, 10, 4),
        (ErrorCode.NETWORK_UNREACHABLE, 2, 2),
        (ErrorCode.STALLED, 10, 4),
        (ErrorCode.CREDENTIALS_UNAVAILABLE, 10, 1),
        (ErrorCode.ACCESS_DENIED, 10, 0),
        (ErrorCode.SOURCE_CHANGED, 10, 0),
        (ErrorCode.DISK_FULL, 10, 0),
    ],
)
async def test_a_fault_is_tried_again_as_often_as_that_can_help(
    code: ErrorCode, retry_count: int, tries: int
) -> None:
    clock = ManualClock()
    retries = Retries(retry_count, clock)
    for _ in "twice":
        await waits(retries, clock, code, tries)
        with pytest.raises(DownloaderError) as caught:
            await retries.wait_or_raise(fault(code))
        assert caught.value.code is code
        retries.on_progress()


@pytest.mark.parametrize(("asked_for", "waited"), [(7.0, 7.0), (3_600.0, 60.0)])
async def test_a_store_that_asks_for_time_gets_it_within_bounds(
    asked_for: float, waited: float
) -> None:
    clock = ManualClock()
    busy = DownloaderError(ErrorCode.TIMEOUT, "busy", retry_after=asked_for)
    waiting = asyncio.create_task(Retries(3, clock).wait_or_raise(busy))
    assert await clock.next_sleep() == waited
    clock.wake()
    await waiting


async def test_a_short_time_asked_for_does_not_shorten_the_wait() -> None:
    clock = ManualClock()
    retries = Retries(10, clock)
    await waits(retries, clock, ErrorCode.TIMEOUT, 8)
    busy = DownloaderError(ErrorCode.TIMEOUT, "busy", retry_after=1.0)
    waiting = asyncio.create_task(retries.wait_or_raise(busy))
    assert await clock.next_sleep() > 20
    clock.wake()
    await waiting


async def test_everyone_who_holds_a_slot_gives_it_back() -> None:
    limiter = ConcurrencyLimiter(3, ManualClock())
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(limiter.slot())
        waiting = asyncio.create_task(limiter.wait_for_slot())
    await eventually(waiting.done)
