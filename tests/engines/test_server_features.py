"""Whether an object store supports ranges: one request finds out, the others wait for it."""

from __future__ import annotations

import asyncio

from s3downloader.engines.ranged.server_features import RangeSupport
from tests.support import ManualClock


async def test_one_request_finds_out_and_the_others_wait() -> None:
    ranges = RangeSupport(ManualClock())
    assert await ranges.acquire()
    others = [asyncio.create_task(ranges.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(other.done() for other in others)
    ranges.on_honored()
    assert await asyncio.gather(*others) == [False] * 3
    assert not await ranges.acquire(), "known from now on"


async def test_a_request_that_fails_holds_nobody() -> None:
    ranges = RangeSupport(ManualClock())
    assert await ranges.acquire()
    other = asyncio.create_task(ranges.acquire())
    await asyncio.sleep(0)
    ranges.release()
    assert not await other
    assert await ranges.acquire(), "the next one finds out"


async def test_a_store_that_ignores_ranges_is_retried_after_an_hour() -> None:
    clock = ManualClock()
    ranges = RangeSupport(clock)
    assert await ranges.acquire()
    ranges.on_ignored()
    ranges.release()
    ignored = [ranges.is_ignored]
    assert not await ranges.acquire()
    clock.advance(3_600)
    ignored.append(ranges.is_ignored)
    assert ignored == [True, False]
    assert await ranges.acquire()


async def test_a_store_that_stops_heeding_ranges_is_believed() -> None:
    ranges = RangeSupport(ManualClock())
    ranges.on_honored()
    ranges.on_ignored()
    assert ranges.is_ignored
