"""What is old is forgotten, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.store import Change, Store

from ..support import ManualClock
from .disk import Gate
from .rig import Rig

DENIED = DownloaderError(ErrorCode.ACCESS_DENIED, "the store refused it")
DAY = 86_400.0


class WallClock(ManualClock):
    """A clock whose time of day can be set."""

    offset = 0.0

    def now(self) -> float:
        return self.time + self.offset


async def forgets(rig: Rig) -> Gate:
    """Return when the daemon has forgotten what is old, and hold it there."""
    gate = rig.hold("forget_answers", lambda _: True)
    await rig.while_time_passes(lambda: gate.is_reached)
    return gate


async def two_failed_downloads(rig: Rig) -> None:
    rig.source.objects = {"a": 10, "b": 10}
    rig.source.error = DENIED
    for name in "ab":
        await rig.download(name, name)
        await rig.hears("download_error", name)
    rig.source.error = None


async def test_a_download_that_is_resumed_while_others_are_forgotten_stays(
    rig: Rig, clock: ManualClock
) -> None:
    async with rig.running():
        await two_failed_downloads(rig)
        forgetting = rig.hold("record", lambda change: change.forgotten == ["a"])
        rig.engine.hold("b")
        clock.time += 8 * DAY
        await rig.while_time_passes(lambda: forgetting.is_reached)
        assert (await rig.ask("resume", download_id="b"))["success"]
        await rig.engine.stands_at("b")
        forgetting.open()
        await rig.while_time_passes(lambda: rig.told("a")["status"] is None)
        assert await rig.listed() == {"b": "downloading"}
        rig.engine.release()
        await rig.completed("b")
        assert rig.files() == {"b"}


async def test_a_download_that_is_being_forgotten_cannot_be_resumed(
    rig: Rig, clock: ManualClock
) -> None:
    async with rig.running():
        await two_failed_downloads(rig)
        forgetting = rig.hold("record", lambda change: change.forgotten == ["a"])
        clock.time += 8 * DAY
        await rig.while_time_passes(lambda: forgetting.is_reached)
        late = await rig.send_and_wait("resume", download_id="a")
        forgetting.open()
        refusal = (await rig.responses(late))[0]
        assert refusal["error_code"] == "download_not_found"


@pytest.mark.parametrize("jump", [8 * DAY, 50 * 365 * DAY, -8 * DAY])
async def test_a_time_of_day_that_is_set_makes_nothing_old(rig: Rig, jump: float) -> None:
    clock = rig.clock = WallClock(now=1_700_000_000.0)
    rig.source.error = DENIED
    async with rig.running():
        accepted = await rig.download("a", "x", command_id="once")
        await rig.hears("download_error", "x")
        clock.offset = jump
        for _ in range(3):
            (await forgets(rig)).open()
        assert await rig.listed() == {"x": "failed"}
        await rig.send("download", command_id="once", bucket="models", key="a", download_id="x")
        assert await rig.responses("once", 2) == [accepted, accepted]


async def test_a_download_is_forgotten_seven_days_after_its_end(
    rig: Rig, clock: ManualClock
) -> None:
    async with rig.running():
        await two_failed_downloads(rig)
        clock.time += 6 * DAY
        pruned = await forgets(rig)
        assert set(await rig.listed()) == {"a", "b"}
        pruned.open()
        clock.time += 1 * DAY
        await rig.while_time_passes(lambda: rig.told("a")["status"] is None)
        assert await rig.listed() == {}


def answers(rig: Rig) -> list[str]:
    """The ids of the commands whose answers are kept."""
    with closing(sqlite3.connect(rig.directory / "state" / "state.db")) as connection:
        rows = connection.execute("SELECT command_id FROM answers ORDER BY at").fetchall()
    return [command_id for (command_id,) in rows]


async def test_an_answer_that_nobody_can_ask_for_again_is_not_kept(rig: Rig) -> None:
    async with rig.running():
        for _ in range(20):
            await rig.send("status", command_id=None)
            await rig.send("model_add", command_id=None, model_meta={"model_id": "m"})
            await rig.send("nonsense", command_id=None)
        await rig.ask("status", command_id="mine")
        await rig.until(lambda: len(rig.said) == 61)
        assert answers(rig) == ["mine"]


async def test_no_more_than_ten_thousand_answers_are_kept(rig: Rig, clock: ManualClock) -> None:
    store = Store(rig.directory / "state")
    for at, ids in ((clock.now() - 60, range(10)), (clock.now(), range(10, 10_010))):
        await store.record(Change(at=at, answers=[(f"c-{n}", b"{}") for n in ids]))
    await store.close()
    async with rig.running():
        await forgets(rig)
        assert len(answers(rig)) == 10_000
        assert "c-9" not in answers(rig)
