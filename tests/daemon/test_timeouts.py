"""A download that exceeds its timeout fails; a resume continues with what has arrived."""

from __future__ import annotations

from typing import cast

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .harness import Harness, Message, reaches

TIMEOUT = 10_000.0


async def begin(harness: Harness, state: State = State.DOWNLOADING) -> None:
    """Bring the download `x` into a state."""
    if state is State.WAITING:
        harness.source.error = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")
    harness.engine.hold("p/b")
    if state is State.QUEUED:
        harness.engine.hold("first")
        await harness.download("first", "first")
        await harness.engine.stands_at("first")
    await harness.download("p/", "x", "x", timeout=TIMEOUT)
    await reaches_again(harness, state)


async def reaches_again(harness: Harness, state: State) -> None:
    """Wait until `x` is again in the state into which `begin` brought it."""
    if state is State.DOWNLOADING:
        await harness.engine.stands_at("p/b")
    elif state is State.QUEUED:
        await harness.engine.stands_at("first")
    await harness.becomes(state, "x")


async def ends(harness: Harness, clock: ManualClock) -> Message:
    """Let time pass until `x` ends; return the event."""

    def look() -> Message | None:
        clock.advance(1)
        return harness.event("download_error", "x")

    return cast(Message, await harness.until(look))


STATES = pytest.mark.parametrize("state", [State.DOWNLOADING, State.WAITING, State.QUEUED])


@pytest.fixture(autouse=True)
def bucket(harness: Harness) -> None:
    harness.source.objects = dict.fromkeys(["first", "p/a", "p/b"], 10)
    harness.configuration |= {"MaxConcurrentDownloads": 1, "ProcessInterval": 80_000}
    harness.configuration["IdleProcessInterval"] = 80_000


@STATES
async def test_it_fails_when_its_time_is_over_and_not_before(
    harness: Harness, clock: ManualClock, state: State
) -> None:
    async with harness.running():
        await begin(harness, state)
        await harness.pass_time(TIMEOUT - 1)
        assert (await harness.listed())["x"] in {state.value, "queued", "planning", "waiting"}
        error = await ends(harness, clock)
        assert (error["error_code"], error["status"]) == ("timeout", "failed")
        assert "within its timeout of 10000 s" in error["error"]
        assert "p/b" not in harness.engine.standing
        await harness.until(lambda: harness.notices)
        assert harness.notices[-1]["error_code"] == "timeout"


@STATES
async def test_timeout_counts_time_before_a_restart_but_not_in_between(
    harness: Harness, clock: ManualClock, state: State
) -> None:
    async with harness.running():
        await begin(harness, state)
        await harness.pass_time(TIMEOUT - 100)
    clock.advance(50_000)
    async with harness.running():
        await reaches_again(harness, state)
        await harness.pass_time(99)
        await harness.listed()
        assert (await harness.listed())["x"] != "failed"
        assert (await ends(harness, clock))["error_code"] == "timeout"


async def test_a_resume_has_as_long_again_and_fetches_what_is_missing(
    harness: Harness, clock: ManualClock
) -> None:
    async with harness.running():
        await begin(harness)
        await harness.pass_time(TIMEOUT)
        await ends(harness, clock)
        assert (await harness.ask("resume", download_id="x"))["status"] == "queued"
        await harness.engine.stands_at("p/b")
        await harness.pass_time(TIMEOUT - 1)
        await harness.listed()
        assert (await harness.listed())["x"] == "downloading"
        harness.engine.release()
        await harness.completed("x")
    assert harness.engine.fetched == ["p/a", "p/b"]


async def test_a_pause_does_not_count(harness: Harness, clock: ManualClock) -> None:
    async with harness.running():
        await begin(harness)
        await harness.pass_time(TIMEOUT - 1)
        await harness.ask("pause", download_id="x")
        await harness.pass_time(100 * TIMEOUT)
        await harness.listed()
        assert await harness.listed() == {"x": "paused"}
        await harness.ask("resume", download_id="x")
        await harness.engine.stands_at("p/b")
        await harness.pass_time(TIMEOUT)
        assert (await ends(harness, clock))["error_code"] == "timeout"


async def test_publishing_is_not_interrupted(harness: Harness, clock: ManualClock) -> None:
    gate = harness.hold("record", reaches(State.PUBLISHING))
    async with harness.running():
        await harness.download("p/", "x", "x", timeout=TIMEOUT)
        await gate.reached()
        await harness.pass_time(2 * TIMEOUT)
        await harness.listed()
        gate.open()
        await harness.completed("x")
        assert harness.events("x") == ["download_started", "download_completed"]
    assert harness.files("x") == {"a", "b"}


async def test_the_end_is_written_as_soon_as_it_can_be(
    harness: Harness, clock: ManualClock
) -> None:
    async with harness.running():
        await begin(harness)
        with harness.disk.full('"state":"failed"', times=2):
            await harness.pass_time(TIMEOUT)
            await harness.until(lambda: harness.disk.refused)
            await harness.while_time_passes(lambda: harness.event("download_error", "x"))
        assert harness.disk.refused == 2
        assert await harness.listed() == {"x": "failed"}


async def test_others_do_not_end_with_it(harness: Harness, clock: ManualClock) -> None:
    harness.configuration["MaxConcurrentDownloads"] = 2
    async with harness.running():
        harness.engine.hold("first", "p/b")
        await harness.download("first", "first")
        await harness.download("p/", "x", "x", timeout=TIMEOUT)
        await harness.engine.stands_at("first", "p/b")
        await harness.pass_time(TIMEOUT)
        await ends(harness, clock)
        harness.engine.release()
        await harness.completed("first")
