"""Old records are deleted, and no others."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.store import Change, Store

from ..support import ManualClock
from .disk import Gate
from .harness import Harness

DENIED = DownloaderError(ErrorCode.ACCESS_DENIED, "the store refused it")
DAY = 86_400.0


class WallClock(ManualClock):
    """A clock whose time of day can be set."""

    offset = 0.0

    def now(self) -> float:
        return self.time + self.offset


async def forgets(harness: Harness) -> Gate:
    """Wait until the daemon has deleted old records, and hold it there; return the gate."""
    gate = harness.hold("delete_responses", lambda _: True)
    await harness.while_time_passes(lambda: gate.is_reached)
    return gate


async def two_failed_downloads(harness: Harness) -> None:
    harness.source.objects = {"a": 10, "b": 10}
    harness.source.error = DENIED
    for name in "ab":
        await harness.download(name, name)
        await harness.wait_for_event("download_error", name)
    harness.source.error = None


async def test_a_download_resumed_while_others_are_forgotten_stays(
    harness: Harness, clock: ManualClock
) -> None:
    async with harness.running():
        await two_failed_downloads(harness)
        forgetting = harness.hold("record", lambda change: change.deleted_downloads == ["a"])
        harness.engine.hold("b")
        clock.time += 8 * DAY
        await harness.while_time_passes(lambda: forgetting.is_reached)
        assert (await harness.ask("resume", download_id="b"))["success"]
        await harness.engine.stands_at("b")
        forgetting.open()
        await harness.while_time_passes(lambda: harness.status_of("a")["status"] is None)
        assert await harness.listed() == {"b": "downloading"}
        harness.engine.release()
        await harness.completed("b")
        assert harness.files() == {"b"}


async def test_a_download_that_is_being_forgotten_cannot_be_resumed(
    harness: Harness, clock: ManualClock
) -> None:
    async with harness.running():
        await two_failed_downloads(harness)
        forgetting = harness.hold("record", lambda change: change.deleted_downloads == ["a"])
        clock.time += 8 * DAY
        await harness.while_time_passes(lambda: forgetting.is_reached)
        late = await harness.send_and_wait("resume", download_id="a")
        forgetting.open()
        refusal = (await harness.responses(late))[0]
        assert refusal["error_code"] == "download_not_found"


@pytest.mark.parametrize("jump", [8 * DAY, 50 * 365 * DAY, -8 * DAY])
async def test_a_time_of_day_that_is_set_makes_nothing_old(harness: Harness, jump: float) -> None:
    clock = harness.clock = WallClock(now=1_700_000_000.0)
    harness.source.error = DENIED
    async with harness.running():
        accepted = await harness.download("a", "x", command_id="once")
        await harness.wait_for_event("download_error", "x")
        clock.offset = jump
        for _ in range(3):
            (await forgets(harness)).open()
        assert await harness.listed() == {"x": "failed"}
        await harness.send("download", command_id="once", bucket="models", key="a", download_id="x")
        assert await harness.responses("once", 2) == [accepted, accepted]


async def test_a_download_is_forgotten_seven_days_after_its_end(
    harness: Harness, clock: ManualClock
) -> None:
    async with harness.running():
        await two_failed_downloads(harness)
        clock.time += 6 * DAY
        pruned = await forgets(harness)
        assert set(await harness.listed()) == {"a", "b"}
        pruned.open()
        clock.time += 1 * DAY
        await harness.while_time_passes(lambda: harness.status_of("a")["status"] is None)
        assert await harness.listed() == {}


def recorded_ids(harness: Harness) -> list[str]:
    """Return the IDs of the commands whose responses are stored."""
    with closing(sqlite3.connect(harness.directory / "state" / "state.db")) as connection:
        rows = connection.execute("SELECT command_id FROM answers ORDER BY at").fetchall()
    return [command_id for (command_id,) in rows]


async def test_an_answer_that_nobody_can_ask_for_again_is_not_kept(harness: Harness) -> None:
    async with harness.running():
        for _ in range(20):
            await harness.send("status", command_id=None)
            await harness.send("model_add", command_id=None, model_meta={"model_id": "m"})
            await harness.send("nonsense", command_id=None)
        await harness.ask("status", command_id="mine")
        await harness.until(lambda: len(harness.messages) == 61)
        assert recorded_ids(harness) == ["mine"]


async def test_no_more_than_ten_thousand_answers_are_kept(
    harness: Harness, clock: ManualClock
) -> None:
    store = Store(harness.directory / "state")
    for at, ids in ((clock.now() - 60, range(10)), (clock.now(), range(10, 10_010))):
        await store.record(Change(at=at, responses=[(f"c-{n}", b"{}") for n in ids]))
    await store.close()
    async with harness.running():
        await forgets(harness)
        assert len(recorded_ids(harness)) == 10_000
        assert "c-9" not in recorded_ids(harness)
