"""The outbox keeps messages until they are published, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from s3downloader.core.aio import stop, timeout
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import MessagingError
from s3downloader.store import RESPONSES, Change, Store
from s3downloader.store.outbox import Outbox

from ..support import PATIENCE, ManualClock, assert_backs_off, eventually


class Line:
    """A publisher that accepts messages, holds them, or fails while it is down."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.begun: list[bytes] = []
        self.up = True
        self.refused: set[bytes] = set()
        self._free = asyncio.Event()
        self._free.set()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def publish(self, payload: bytes) -> None:
        self.begun.append(payload)
        await self._free.wait()
        if not self.up or payload in self.refused:
            raise MessagingError("away")
        if payload == b"too large":
            raise DownloaderError(ErrorCode.PAYLOAD_TOO_LARGE, "too large")
        self.taken.append(payload)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path)
    yield store
    await store.close()


@asynccontextmanager
async def publishing(store: Store, line: Line, clock: ManualClock) -> AsyncIterator[Outbox]:
    """An outbox that publishes on `line`."""
    outbox = Outbox(store, {RESPONSES: line.publish}, clock)
    running = asyncio.create_task(outbox.run())
    yield outbox
    await stop(running)
    assert running.cancelled()


def responses(count: int) -> list[tuple[str, bytes]]:
    return [(f"c{n}", b"answer %d" % n) for n in range(count)]


async def until_forgotten(store: Store) -> None:
    async with timeout(PATIENCE):
        while await store.outgoing():
            continue


async def test_answers_go_before_the_events_of_the_same_change(store: Store) -> None:
    line = Line()
    async with publishing(store, line, ManualClock()) as outbox:
        await outbox.record(Change(events=[b"e1", b"e2"], responses=[("c", b"answer")]))
        await outbox.record(Change(events=[b"e3"]))
        await eventually(lambda: line.taken == [b"answer", b"e1", b"e2", b"e3"])
        await until_forgotten(store)


async def test_twenty_responses_on_a_line_that_blocks_eight_pend(store: Store) -> None:
    line = Line()
    line.hold()
    async with publishing(store, line, ManualClock()) as outbox:
        await outbox.record(Change(responses=responses(20)))
        await eventually(lambda: len(line.begun) >= 8)
        for _ in range(50):  # iterations of the event loop in which a ninth would start
            await asyncio.sleep(0)
        assert line.begun == [response for _, response in responses(8)]
        line.release()
        await eventually(lambda: line.taken == [response for _, response in responses(20)])


async def test_an_event_is_begun_alone_and_after_its_response(store: Store) -> None:
    line = Line()
    line.hold()

    def begins(expected: list[bytes]) -> bool:
        return line.begun == expected

    async with publishing(store, line, ManualClock()) as outbox:
        await outbox.record(Change(responses=[("c", b"yes")], events=[b"e1", b"e2"]))
        await outbox.record(Change(responses=[("d", b"no")]))
        for begun in ([b"yes"], [b"yes", b"e1"], [b"yes", b"e1", b"e2"]):
            await eventually(partial(begins, begun))
            line.release()
            line.hold()


async def test_the_waits_between_attempts_grow_up_to_30_s(store: Store) -> None:
    line, clock = Line(), ManualClock()
    line.up = False
    async with publishing(store, line, clock) as outbox:
        await outbox.record(Change(events=[b"1", b"2", b"3"]))
        waits = []
        for _ in range(7):
            waits.append(await clock.next_sleep())
            clock.wake()
        assert_backs_off(waits, 1, 30)
        assert line.taken == []
        await clock.next_sleep()
        line.up = True
        clock.wake()
        await eventually(lambda: line.taken == [b"1", b"2", b"3"])


async def test_it_does_not_wait_when_the_link_is_back(store: Store) -> None:
    line, clock = Line(), ManualClock()
    line.up = False
    async with publishing(store, line, clock) as outbox:
        await outbox.record(Change(events=[b"1"], responses=[("c", b"yes")]))
        for _ in range(3):
            await clock.next_sleep()
            clock.wake()
        assert await clock.next_sleep() >= 8
        outbox.connected()
        assert await clock.next_sleep() <= 2, "it was down still, and the waits begin anew"
        line.up = True
        before = clock.time
        outbox.connected()
        await eventually(lambda: line.taken == [b"yes", b"1"])
        assert clock.time == before


async def test_a_link_that_returns_in_mid_attempt_is_not_missed(store: Store) -> None:
    line, clock = Line(), ManualClock()
    line.up = False
    line.hold()
    async with publishing(store, line, clock) as outbox:
        await outbox.record(Change(events=[b"1"]))
        await eventually(lambda: line.begun)
        outbox.connected()
        line.release()
        await eventually(lambda: len(line.begun) == 2)
        line.up = True
        clock.wake()
        await eventually(lambda: line.taken == [b"1"])


async def test_each_message_goes_to_its_channel(store: Store) -> None:
    commands, jobs = Line(), Line()
    channels = {RESPONSES: commands.publish, "jobs": jobs.publish}
    outbox = Outbox(store, channels, ManualClock())
    running = asyncio.create_task(outbox.run())
    await outbox.record(Change(responses=[("c", b"job done")], events=[b"job"], channel="jobs"))
    await outbox.record(Change(responses=[("d", b"yes")]))
    await eventually(lambda: commands.taken == [b"yes"])
    assert jobs.taken == [b"job done", b"job"]
    await until_forgotten(store)
    await stop(running)


async def test_a_message_for_an_unknown_channel_stays(store: Store) -> None:
    """A message of a newer version waits for that version, and blocks no other."""
    await store.record(Change(events=[b"newer"], responses=[("c", b"newest")], channel="newer"))
    line = Line()
    async with publishing(store, line, ManualClock()) as outbox:
        await outbox.record(Change(responses=responses(2), events=[b"e"]))
        await eventually(lambda: line.taken == [b"answer 0", b"answer 1", b"e"])
        async with timeout(10):
            while len(await store.outgoing()) > 2:
                continue
    left = await store.outgoing()
    assert [(m.payload, m.channel) for m in left] == [(b"newest", "newer"), (b"newer", "newer")]


@pytest.mark.parametrize("change", [Change(events=[b"old"]), Change(responses=[("c", b"old")])])
async def test_messages_of_an_earlier_process_come_first(store: Store, change: Change) -> None:
    await store.record(change)
    line = Line()
    outbox = Outbox(store, {RESPONSES: line.publish}, ManualClock())
    await outbox.record(Change(events=[b"new"]))
    running = asyncio.create_task(outbox.run())
    await eventually(lambda: line.taken == [b"old", b"new"])
    await stop(running)


async def test_what_was_published_is_not_published_by_the_next(store: Store) -> None:
    line = Line()
    async with publishing(store, line, ManualClock()) as outbox:
        await outbox.record(Change(responses=responses(3), events=[b"e"]))
        await eventually(lambda: len(line.taken) == 4)
    assert await store.outgoing() == []


async def test_what_is_on_its_way_at_the_end_may_arrive(store: Store) -> None:
    line = Line()
    line.hold()
    outbox = Outbox(store, {RESPONSES: line.publish}, ManualClock())
    running = asyncio.create_task(outbox.run())
    await outbox.record(Change(responses=responses(10)))
    await eventually(lambda: len(line.begun) == 8)
    running.cancel()
    await asyncio.sleep(0)
    line.release()
    await stop(running)
    assert line.taken == [response for _, response in responses(8)]
    assert [message.payload for message in await store.outgoing()] == [b"answer 8", b"answer 9"]


async def test_a_message_that_can_never_be_published_blocks_nothing(store: Store) -> None:
    line = Line()
    async with publishing(store, line, ManualClock()) as outbox:
        await outbox.record(Change(events=[b"too large", b"next"]))
        await eventually(lambda: line.taken == [b"next"])
        await until_forgotten(store)


async def test_of_several_responses_those_that_failed_come_again(store: Store) -> None:
    line, clock = Line(), ManualClock()
    line.refused = {b"answer 1", b"answer 3"}
    async with publishing(store, line, clock) as outbox:
        await outbox.record(Change(responses=responses(5), events=[b"e"]))
        await clock.next_sleep()
        assert line.taken == [b"answer 0", b"answer 2", b"answer 4"]
        line.refused = set()
        clock.wake()
        await eventually(lambda: line.taken[3:] == [b"answer 1", b"answer 3", b"e"])


async def test_thousands_that_wait_are_read_as_they_go(store: Store) -> None:
    line = Line()
    expected = [b"%d" % n for n in range(3_000)]
    await store.record(Change(responses=[(f"c{n}", expected[n]) for n in range(3_000)]))
    async with publishing(store, line, ManualClock()):
        await eventually(lambda: line.taken == expected)
        await until_forgotten(store)
    assert await store.response("c2999") == b"2999"


async def refuse(*_: object, **__: object) -> None:
    """Raise the error of a full disk, in place of an operation of the store."""
    raise DownloaderError(ErrorCode.DISK_FULL, "no space")


async def test_an_answer_that_cannot_be_recorded_is_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line()
    line.hold()
    await store.receive("c", b"command")
    monkeypatch.setattr(store, "record", refuse)
    async with publishing(store, line, ManualClock()) as outbox:
        answering = asyncio.create_task(outbox.respond("c", b"answer"))
        await eventually(lambda: line.begun == [b"answer"])
        assert not answering.done(), "it is published first"
        line.release()
        await answering
        assert line.taken == [b"answer"]
    assert await store.arrived() == [], "the command is not carried out again"


async def test_messages_that_cannot_be_deleted_are_deleted_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, clock = Line(), ManualClock()
    with monkeypatch.context() as full:
        full.setattr(store, "delete_messages", refuse)
        async with publishing(store, line, clock) as outbox:
            await outbox.record(Change(events=[b"1", b"2"]))
            assert await clock.next_sleep() == 10
            full.undo()
            clock.wake()
            await until_forgotten(store)
            assert line.taken == [b"1", b"2"]
