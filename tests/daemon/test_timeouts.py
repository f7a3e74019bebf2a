"""A download that takes longer than its timeout fails, and a resume goes on from what it has."""

from __future__ import annotations

from typing import cast

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .rig import Message, Rig, reaches

TIMEOUT = 10_000.0


async def begin(rig: Rig, state: State = State.DOWNLOADING) -> None:
    """Bring the download `x` into a state."""
    if state is State.WAITING:
        rig.source.error = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")
    rig.engine.hold("p/b")
    if state is State.QUEUED:
        rig.engine.hold("first")
        await rig.download("first", "first")
        await rig.engine.stands_at("first")
    await rig.download("p/", "x", "x", timeout=TIMEOUT)
    await reaches_again(rig, state)


async def reaches_again(rig: Rig, state: State) -> None:
    """Return when `x` is in the state that `begin` brought it into."""
    if state is State.DOWNLOADING:
        await rig.engine.stands_at("p/b")
    elif state is State.QUEUED:
        await rig.engine.stands_at("first")
    await rig.becomes(state, "x")


async def ends(rig: Rig, clock: ManualClock) -> Message:
    """Return the event of the end of `x`, while the seconds pass."""

    def look() -> Message | None:
        clock.advance(1)
        return rig.event("download_error", "x")

    return cast(Message, await rig.until(look))


STATES = pytest.mark.parametrize("state", [State.DOWNLOADING, State.WAITING, State.QUEUED])


@pytest.fixture(autouse=True)
def bucket(rig: Rig) -> None:
    rig.source.objects = dict.fromkeys(["first", "p/a", "p/b"], 10)
    rig.configuration |= {"MaxConcurrentDownloads": 1, "ProcessInterval": 80_000}
    rig.configuration["IdleProcessInterval"] = 80_000


@STATES
async def test_it_fails_when_its_time_is_over_and_not_before(
    rig: Rig, clock: ManualClock, state: State
) -> None:
    async with rig.running():
        await begin(rig, state)
        await rig.pass_time(TIMEOUT - 1)
        assert (await rig.listed())["x"] in {state.value, "queued", "planning", "waiting"}
        error = await ends(rig, clock)
        assert (error["error_code"], error["status"]) == ("timeout", "failed")
        assert "within its timeout of 10000 s" in error["error"]
        assert "p/b" not in rig.engine.standing
        await rig.until(lambda: rig.notices)
        assert rig.notices[-1]["error_code"] == "timeout"


@STATES
async def test_the_time_before_a_restart_counts_and_that_in_between_does_not(
    rig: Rig, clock: ManualClock, state: State
) -> None:
    async with rig.running():
        await begin(rig, state)
        await rig.pass_time(TIMEOUT - 100)
    clock.advance(50_000)
    async with rig.running():
        await reaches_again(rig, state)
        await rig.pass_time(99)
        await rig.listed()
        assert (await rig.listed())["x"] != "failed"
        assert (await ends(rig, clock))["error_code"] == "timeout"


async def test_a_resume_has_as_long_again_and_fetches_what_is_missing(
    rig: Rig, clock: ManualClock
) -> None:
    async with rig.running():
        await begin(rig)
        await rig.pass_time(TIMEOUT)
        await ends(rig, clock)
        assert (await rig.ask("resume", download_id="x"))["status"] == "queued"
        await rig.engine.stands_at("p/b")
        await rig.pass_time(TIMEOUT - 1)
        await rig.listed()
        assert (await rig.listed())["x"] == "downloading"
        rig.engine.release()
        await rig.completed("x")
    assert rig.engine.fetched == ["p/a", "p/b"]


async def test_a_pause_does_not_count(rig: Rig, clock: ManualClock) -> None:
    async with rig.running():
        await begin(rig)
        await rig.pass_time(TIMEOUT - 1)
        await rig.ask("pause", download_id="x")
        await rig.pass_time(100 * TIMEOUT)
        await rig.listed()
        assert await rig.listed() == {"x": "paused"}
        await rig.ask("resume", download_id="x")
        await rig.engine.stands_at("p/b")
        await rig.pass_time(TIMEOUT)
        assert (await ends(rig, clock))["error_code"] == "timeout"


async def test_publishing_is_not_interrupted(rig: Rig, clock: ManualClock) -> None:
    gate = rig.hold("record", reaches(State.PUBLISHING))
    async with rig.running():
        await rig.download("p/", "x", "x", timeout=TIMEOUT)
        await gate.reached()
        await rig.pass_time(2 * TIMEOUT)
        await rig.listed()
        gate.open()
        await rig.completed("x")
        assert rig.events("x") == ["download_started", "download_completed"]
    assert rig.files("x") == {"a", "b"}


async def test_the_end_is_written_as_soon_as_it_can_be(rig: Rig, clock: ManualClock) -> None:
    async with rig.running():
        await begin(rig)
        with rig.disk.full('"state":"failed"', times=2):
            await rig.pass_time(TIMEOUT)
            await rig.until(lambda: rig.disk.refused)
            await rig.while_time_passes(lambda: rig.event("download_error", "x"))
        assert rig.disk.refused == 2
        assert await rig.listed() == {"x": "failed"}


async def test_others_do_not_end_with_it(rig: Rig, clock: ManualClock) -> None:
    rig.configuration["MaxConcurrentDownloads"] = 2
    async with rig.running():
        rig.engine.hold("first", "p/b")
        await rig.download("first", "first")
        await rig.download("p/", "x", "x", timeout=TIMEOUT)
        await rig.engine.stands_at("first", "p/b")
        await rig.pass_time(TIMEOUT)
        await ends(rig, clock)
        rig.engine.release()
        await rig.completed("first")
