"""The outbox keeps events until they are published, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from s3downloader.aio import stop
from s3downloader.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import MessagingError
from s3downloader.outbox import Outbox
from s3downloader.store import Change, Store

from .support import ManualClock, eventually


class Line:
    """What publishes: takes messages, or fails while it is down."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.up = True
        self.tries = 0

    async def publish(self, payload: bytes) -> None:
        self.tries += 1
        if not self.up:
            raise MessagingError("away")
        if payload == b"too large":
            raise DownloaderError(ErrorCode.PAYLOAD_TOO_LARGE, "too large")
        self.taken.append(payload)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path)
    yield store
    await store.close()


async def test_answers_go_before_the_events_of_the_same_change(store: Store) -> None:
    line = Line()
    outbox = Outbox(store, line.publish, ManualClock())
    running = asyncio.create_task(outbox.run())
    await outbox.record(Change(events=[b"e1", b"e2"], answers=[("c", b"answer")]))
    await outbox.record(Change(events=[b"e3"]))
    await eventually(lambda: line.taken == [b"answer", b"e1", b"e2", b"e3"])

    async def forgotten() -> bool:
        return await store.events() == []

    while not await forgotten():
        continue
    await stop(running)


async def test_events_wait_for_the_line_and_keep_their_order(store: Store) -> None:
    line, clock = Line(), ManualClock()
    line.up = False
    outbox = Outbox(store, line.publish, clock)
    running = asyncio.create_task(outbox.run())
    await outbox.record(Change(events=[b"1", b"2", b"3"]))
    for waited in (1.0, 2.0, 4.0):
        assert await clock.next_sleep() == waited
        assert line.taken == []
        clock.wake()
    assert await clock.next_sleep() == 8.0
    line.up = True
    clock.wake()
    await eventually(lambda: line.taken == [b"1", b"2", b"3"])
    await stop(running)


async def test_events_of_an_earlier_process_come_first(store: Store) -> None:
    await store.record(Change(events=[b"old"]))
    line = Line()
    outbox = Outbox(store, line.publish, ManualClock())
    await outbox.load()
    await outbox.record(Change(events=[b"new"]))
    running = asyncio.create_task(outbox.run())
    await eventually(lambda: line.taken == [b"old", b"new"])
    await stop(running)


async def test_a_message_that_can_never_be_published_blocks_nothing(store: Store) -> None:
    line = Line()
    outbox = Outbox(store, line.publish, ManualClock())
    running = asyncio.create_task(outbox.run())
    await outbox.record(Change(events=[b"too large", b"next"]))
    await eventually(lambda: line.taken == [b"next"])
    await stop(running)


async def test_responses_that_failed_are_sent_again(store: Store) -> None:
    line, clock = Line(), ManualClock()
    line.up = False
    outbox = Outbox(store, line.publish, clock)
    running = asyncio.create_task(outbox.run())
    for n in range(20):
        outbox.respond(b"%d" % n)
    await clock.next_sleep()
    line.up = True
    clock.wake()
    await eventually(lambda: len(line.taken) == 20)
    assert sorted(line.taken) == sorted(b"%d" % n for n in range(20))
    await stop(running)
