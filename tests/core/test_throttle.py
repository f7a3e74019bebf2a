"""Bandwidth limits hold, are shared fairly, and can be changed while they are in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3downloader.core.clock import Clock
from s3downloader.core.throttle import Share, Throttle

from ..support import run_instantly

KIB, MIB = 1 << 10, 1 << 20
RATE = 1_000_000


class Reader:
    """Takes as many bytes of a share as it gets, as an engine does, and records when."""

    def __init__(self, clock: Clock, share: Share, size: int, seconds: float) -> None:
        self._clock = clock
        self._share = share
        self._size = size
        self._seconds = seconds
        self._took: list[tuple[float, int]] = []

    async def run(self) -> None:
        while True:
            await self._share.take(self._size)
            self._took.append((self._clock.monotonic(), self._size))
            await self._clock.sleep(self._seconds)

    def between(self, start: float, end: float) -> int:
        return sum(size for at, size in self._took if start < at <= end)


class Device:
    """A throttle whose limit the test sets, and its readers."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self.limit = limit
        self.clock = clock
        self.throttle = Throttle(clock, lambda: self.limit)
        self._tasks: list[asyncio.Task[None]] = []

    def read(
        self, share: Share, size: int = 64 * KIB, *, readers: int = 4, seconds: float = 0.001
    ) -> Reader:
        """Start a reader that takes `size` bytes repeatedly, and reads them in `seconds`."""
        reader = Reader(self.clock, share, size, seconds)
        self._tasks += [asyncio.ensure_future(reader.run()) for _ in range(readers)]
        return reader

    async def until(self, moment: float) -> None:
        await self.clock.sleep(moment - self.clock.monotonic())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


@asynccontextmanager
async def device(clock: Clock, limit: int = 0) -> AsyncIterator[Device]:
    device = Device(clock, limit)
    try:
        yield device
    finally:
        await device.stop()


@pytest.mark.parametrize(
    ("limit", "size", "readers", "seconds"),
    [
        (RATE, 64 * KIB, 16, 0.001),
        (RATE, 64 * KIB, 1, 0.03),
        (RATE, 16 * KIB, 1, 0.001),
        (100_000, 16 * KIB, 256, 0.001),
        (100_000_000, 128 * KIB, 16, 0.001),
        (10_000_000, 4 * MIB, 1, 0.3),
        (1_000_000_000, 4 * MIB, 8, 0.001),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_a_limit_is_kept_to_within_five_percent(
    limit: int, size: int, readers: int, seconds: float, own: bool
) -> None:
    async def main(clock: Clock) -> None:
        async with device(clock, 0 if own else limit) as here:
            share = here.throttle.open(limit if own else None)
            reader = here.read(share, size, readers=readers, seconds=seconds)
            await here.until(31)
            for start in range(0, 21, 5):
                took = reader.between(start, start + 10)
                assert abs(took - 10 * limit) <= 0.05 * 10 * limit

    run_instantly(main)


def test_large_takes_are_spread_from_the_first_on() -> None:
    async def main(clock: Clock) -> None:
        async with device(clock, 100_000) as here:
            reader = here.read(here.throttle.open(), 2 * MIB, readers=8)
            await here.until(210)
            for second in range(200):
                assert reader.between(0, second) <= 100_000 * second + 1
                assert reader.between(second, second + 1) <= 2 * MIB
            assert reader.between(0, 210) == 10 * 2 * MIB

    run_instantly(main)


def test_shares_are_even_whatever_size_and_number_of_takes() -> None:
    async def main(clock: Clock) -> None:
        async with device(clock, 3 * RATE) as here:
            readers = [
                here.read(here.throttle.open(), 16 * KIB, readers=1),
                here.read(here.throttle.open(), 64 * KIB, readers=32),
                here.read(here.throttle.open(), 256 * KIB, readers=8),
            ]
            await here.until(20)
            for reader in readers:
                assert reader.between(5, 15) == pytest.approx(10 * RATE, rel=0.05)

    run_instantly(main)


def test_what_a_slower_download_leaves_goes_to_the_others() -> None:
    async def main(clock: Clock) -> None:
        async with device(clock, 3 * RATE) as here:
            limited = here.read(here.throttle.open(200_000))
            slow = here.read(here.throttle.open(), 40_000, readers=1, seconds=0.1)
            first, second = here.read(here.throttle.open()), here.read(here.throttle.open())
            await here.until(20)
            assert limited.between(5, 15) == pytest.approx(2_000_000, rel=0.05)
            assert slow.between(5, 15) == pytest.approx(4_000_000, rel=0.05)
            assert first.between(5, 15) == pytest.approx(12_000_000, rel=0.05)
            assert second.between(5, 15) == pytest.approx(12_000_000, rel=0.05)

    run_instantly(main)


def fair_rates(device: int, limits: list[int]) -> list[float]:
    """Compute max-min fair rates by definition: the same level for all, cut at each one's limit."""
    low, high = 0.0, float(device)
    for _ in range(60):
        level = (low + high) / 2
        if sum(min(limit or device, level) for limit in limits) <= device:
            low = level
        else:
            high = level
    return [min(limit or device, low) for limit in limits]


@given(
    device_limit=st.integers(100_000, 10**9),
    parts=st.lists(st.none() | st.floats(0.02, 2), min_size=1, max_size=4),
    readers=st.integers(1, 3),
)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_whatever_the_limits_the_rates_are_max_min_fair(
    device_limit: int, parts: list[float | None], readers: int
) -> None:
    limits = [0 if part is None else round(part * device_limit) for part in parts]

    async def main(clock: Clock) -> None:
        async with device(clock, device_limit) as here:
            size = device_limit // 250
            shares = [here.throttle.open(limit) for limit in limits]
            reading = [here.read(share, size, readers=readers) for share in shares]
            await here.until(13)
            for reader, rate in zip(reading, fair_rates(device_limit, limits), strict=True):
                assert reader.between(2, 12) == pytest.approx(10 * rate, rel=0.05)

    run_instantly(main)


def test_an_idle_share_leaves_all_to_others_and_saves_nothing_up() -> None:
    async def main(clock: Clock) -> None:
        async with device(clock, RATE) as here:
            idle = here.throttle.open()
            reader = here.read(here.throttle.open())
            await idle.take(64 * KIB)
            await here.until(100)
            assert reader.between(10, 20) == pytest.approx(10 * RATE, rel=0.05)
            late = here.read(idle)
            await here.until(111)
            assert late.between(100, 101) <= RATE / 2
            assert late.between(100, 110) == pytest.approx(5 * RATE, rel=0.05)
            assert reader.between(100, 110) == pytest.approx(5 * RATE, rel=0.05)

    run_instantly(main)


def test_a_closed_share_leaves_its_part_at_once() -> None:
    async def main(clock: Clock) -> None:
        async with device(clock, RATE) as here:
            reader = here.read(here.throttle.open())
            with here.throttle.open() as other:
                waiting = asyncio.ensure_future(other.take(64 * MIB))
                await here.until(10)
            await waiting
            await here.until(21)
            assert reader.between(0, 10) == pytest.approx(5 * RATE, rel=0.05)
            assert reader.between(10, 20) == pytest.approx(10 * RATE, rel=0.05)

    run_instantly(main)


def test_changed_limits_hold_at_once_also_for_takes_that_wait() -> None:
    async def main(clock: Clock) -> None:
        async with device(clock, 100) as here:
            share = here.throttle.open()
            reader = here.read(share, 50_000)
            await here.until(10)
            assert reader.between(0, 10) == 0
            here.limit = RATE
            here.throttle.refresh()
            await here.until(20)
            assert reader.between(10, 20) == pytest.approx(10 * RATE, rel=0.05)
            share.limit = RATE // 10
            await here.until(30)
            assert reader.between(20, 30) == pytest.approx(RATE, rel=0.06)
            share.limit = None
            await here.until(40)
            assert reader.between(30, 40) == pytest.approx(10 * RATE, rel=0.05)
            here.limit = 2 * RATE  # without a notification
            await here.until(50)
            assert reader.between(41, 49) == pytest.approx(16 * RATE, rel=0.05)

    run_instantly(main)


def test_a_limit_that_goes_lets_waiting_takes_through() -> None:
    async def main(clock: Clock) -> None:
        here = Device(clock, 1)
        share = here.throttle.open()
        takes = [asyncio.ensure_future(share.take(MIB)) for _ in range(3)]
        await here.until(5)
        here.limit = 0
        here.throttle.refresh()
        await asyncio.wait(takes)
        assert clock.monotonic() == pytest.approx(5)

    run_instantly(main)


def test_a_cancelled_take_costs_the_others_nothing() -> None:
    async def main(clock: Clock) -> None:
        here = Device(clock, RATE)
        share, other = here.throttle.open(), here.throttle.open()
        given_up = asyncio.ensure_future(share.take(4 * RATE))
        behind = asyncio.ensure_future(share.take(RATE))
        elsewhere = asyncio.ensure_future(other.take(2 * RATE))
        await here.until(1)
        given_up.cancel()
        await behind
        assert clock.monotonic() == pytest.approx(2, abs=0.02)
        await elsewhere
        assert clock.monotonic() <= 4.02

    run_instantly(main)


def test_a_cancelled_take_leaves_its_bandwidth_to_others() -> None:
    async def main(clock: Clock) -> None:
        here = Device(clock, RATE)
        given_up = asyncio.ensure_future(here.throttle.open().take(64 * MIB))
        taken = asyncio.ensure_future(here.throttle.open().take(10 * RATE))
        await here.until(2)
        given_up.cancel()
        await taken
        assert clock.monotonic() == pytest.approx(11, abs=0.02)

    run_instantly(main)


def test_without_a_limit_nothing_waits() -> None:
    async def main(clock: Clock) -> None:
        share = Throttle(clock, lambda: 0).open()
        assert not share.limited
        for _ in range(10_000):
            with pytest.raises(StopIteration):
                share.take(4 * MIB).send(None)

    run_instantly(main)


def test_a_fetch_is_told_when_it_becomes_limited_and_when_not() -> None:
    async def main(clock: Clock) -> None:
        here = Device(clock, 0)
        share, other = here.throttle.open(), here.throttle.open(5)
        assert (share.limited, other.limited) == (False, True)
        waiting = asyncio.ensure_future(share.until(limited=True))
        await here.until(1)
        assert not waiting.done()
        share.limit = 100
        await waiting
        share.limit, here.limit = None, 100
        assert share.limited
        free = asyncio.ensure_future(share.until(limited=False))
        await here.until(2)
        here.limit = 0
        here.throttle.refresh()
        await free

    run_instantly(main)
