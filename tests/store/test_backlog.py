"""A queue on disk, with its first part in memory, is filled and emptied in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from s3downloader.store import Arrived, Backlog, Store
from tests.support import PATIENCE


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path)
    yield store
    await store.close()


async def receive(store: Store, number: int) -> Arrived:
    arrived = await store.receive(f"c{number}", b"")
    assert arrived is not None
    return arrived


async def take_all(backlog: Backlog[Arrived]) -> list[int]:
    taken = []
    while backlog.ready or backlog.has_more:
        if not backlog.ready:
            await backlog.read_more()
        while backlog.ready:
            taken.append(backlog.ready.popleft().number)
    return taken


async def test_what_an_earlier_process_left_comes_first(store: Store) -> None:
    for number in range(100):
        await receive(store, number)
    backlog = Backlog(store.arrived)
    backlog.add(await receive(store, 100))
    assert await take_all(backlog) == list(range(1, 102))


async def test_few_are_in_memory_however_many_wait(store: Store) -> None:
    backlog = Backlog(store.arrived)
    assert await take_all(backlog) == []
    for number in range(500):
        backlog.add(await receive(store, number))
        assert len(backlog.ready) <= 32
    assert await take_all(backlog) == list(range(1, 501))


async def test_one_that_comes_alone_is_ready_without_a_read(store: Store) -> None:
    backlog = Backlog(store.arrived)
    assert await take_all(backlog) == []
    for number in range(3):
        backlog.add(await receive(store, number))
        assert [arrived.number for arrived in backlog.ready] == [number + 1]
        assert not backlog.has_more
        backlog.ready.clear()


async def test_none_is_missed_or_doubled_while_many_come_and_go(store: Store) -> None:
    backlog, rng = Backlog(store.arrived), random.Random(7)
    taken: list[int] = []

    async def put(number: int) -> None:
        await asyncio.sleep(rng.random() / 20)
        backlog.add(await receive(store, number))

    async def take() -> None:
        while len(taken) < 1_000:
            if backlog.ready:
                taken.append(backlog.ready.popleft().number)
            elif backlog.has_more:
                await backlog.read_more()
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(take(), *map(put, range(1_000))), 2 * PATIENCE)
    assert taken == list(range(1, 1_001))
