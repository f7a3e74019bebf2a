"""The disk below StateDir is full, once or for a while: the daemon stays up, and goes on after."""

from __future__ import annotations

from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .rig import Rig

DENIED = DownloaderError(ErrorCode.ACCESS_DENIED, "the store refused it")
AWAY = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")
WRITES = "^(INSERT|UPDATE|DELETE)"
DAY = 86_400.0


def into(state: State) -> str:
    """The pattern of a record that brings a download into `state`."""
    return f'INTO downloads .*"state":"{state.value}"'


@pytest.mark.parametrize("times", [1, 3])
async def test_a_failure_is_recorded_as_soon_as_it_can_be(
    rig: Rig, clock: ManualClock, times: int
) -> None:
    rig.source.error = DENIED
    async with rig.running():
        with rig.disk.full(into(State.FAILED), times):
            await rig.download("a", "x")
            await rig.while_time_passes(lambda: rig.event("download_error", "x"))
        assert rig.disk.refused == times
        assert rig.events("x") == ["download_error"]


@pytest.mark.parametrize("times", [1, 3])
async def test_a_wait_is_recorded_as_soon_as_it_can_be_and_ends(
    rig: Rig, clock: ManualClock, times: int
) -> None:
    rig.source.objects = {"a": 10}
    rig.source.error = AWAY
    async with rig.running():
        with rig.disk.full(into(State.WAITING), times):
            await rig.download("a", "x")
            await rig.while_time_passes(lambda: rig.told("x")["status"] == "waiting")
        assert rig.disk.refused == times
        rig.source.error = None
        await rig.while_time_passes(lambda: rig.event("download_completed", "x"))


@pytest.mark.parametrize("times", [1, 3])
async def test_the_end_of_a_wait_is_recorded_as_soon_as_it_can_be(
    rig: Rig, clock: ManualClock, times: int
) -> None:
    rig.source.objects = {"a": 10}
    rig.source.error = AWAY
    async with rig.running():
        await rig.download("a", "x")
        await rig.becomes(State.WAITING, "x")
        rig.source.error = None
        with rig.disk.full(into(State.QUEUED), times):
            await rig.while_time_passes(lambda: rig.event("download_completed", "x"))
        assert rig.disk.refused == times


@pytest.mark.parametrize("command", ["pause", "cancel"])
async def test_a_command_that_cannot_be_recorded_leaves_the_download_going_on(
    rig: Rig, command: str
) -> None:
    rig.source.objects = {"m/a": 10, "m/b": 10}
    rig.engine.hold("m/b")
    async with rig.running():
        await rig.download("m/", "x")
        await rig.engine.stands_at("m/b")
        with rig.disk.full('"state":"(paused|cancelled)"'):
            refusal = await rig.ask(command, download_id="x")
        assert refusal["error_code"] == "disk_full"
        await rig.engine.stands_at("m/b")
        rig.engine.release()
        await rig.completed("x")
        assert rig.files() == {"a", "b"}


async def test_what_cannot_be_forgotten_is_published_again_at_the_next_start(rig: Rig) -> None:
    rig.source.objects = {"a": 10, "b": 10}
    told = ["download_started", "download_completed"]
    with rig.disk.full("DELETE FROM outbox"):
        async with rig.running():
            await rig.download("a", "x")
            await rig.completed("x")
            await rig.until(lambda: rig.disk.refused)
            assert rig.events("x") == told
    async with rig.running():
        await rig.until(lambda: rig.events("x") == told * 2)
        await rig.download("b", "y")
        await rig.completed("y")
    async with rig.running():
        assert (await rig.listed()) == {"x": "completed", "y": "completed"}
        assert rig.events("x") + rig.events("y") == told * 3


async def test_a_command_whose_answer_cannot_be_looked_up_is_refused(rig: Rig) -> None:
    rig.source.objects = {"a": 10}
    async with rig.running():
        with rig.disk.full("SELECT response|INTO answers"):
            refusal = await rig.download("a", "x")
        assert refusal["error_code"] == "disk_full"
        assert await rig.listed() == {}
        assert (await rig.download("a", "x"))["success"]
        await rig.completed("x")


@pytest.mark.parametrize("statement", ["DELETE FROM downloads", "DELETE FROM answers"])
async def test_what_cannot_be_forgotten_is_forgotten_later(
    rig: Rig, clock: ManualClock, statement: str
) -> None:
    rig.source.error = DENIED
    async with rig.running():
        await rig.download("a", "x")
        await rig.hears("download_error", "x")
        clock.time += 8 * DAY
        with rig.disk.full(statement):
            await rig.while_time_passes(lambda: rig.disk.refused >= 2)
        await rig.while_time_passes(lambda: rig.told("x")["status"] is None)
        assert await rig.listed() == {}


async def test_a_start_on_a_full_disk_takes_up_what_was_under_way(
    rig: Rig, clock: ManualClock
) -> None:
    rig.source.objects = {"m/a": 10, "m/b": 10}
    rig.engine.hold("m/b")
    async with rig.running():
        await rig.download("m/", "x")
        await rig.engine.stands_at("m/b")
    rig.engine.release()
    with rig.disk.full(WRITES):
        async with rig.running():
            await rig.until(lambda: rig.disk.refused >= 3)
    async with rig.running():
        await rig.completed("x")
        assert rig.files() == {"a", "b"}


async def test_a_download_goes_on_once_there_is_space_again(rig: Rig, clock: ManualClock) -> None:
    rig.source.objects = {"m/a": 10, "m/b": 10}
    rig.engine.hold("m/b")
    async with rig.running():
        await rig.download("m/", "x")
        await rig.engine.stands_at("m/b")
    rig.engine.release()
    with rig.disk.full(WRITES, times=4):
        async with rig.running():
            await rig.while_time_passes(lambda: rig.event("download_error", "x"))
            assert (await rig.hears("download_error", "x"))["error_code"] == "disk_full"
            assert (await rig.ask("resume", download_id="x"))["success"]
            await rig.completed("x")


READING: list[dict[str, Any]] = [
    {"command": "list"},
    {"command": "list", "list_type": "models"},
    {"command": "details", "download_id": "x"},
    {"command": "status"},
    {"command": "disk_space"},
    {"command": "limits"},
    {"command": "model_list"},
    {"command": "model_get", "model_id": "m"},
]
CHANGING: list[dict[str, Any]] = [
    {"command": "download", "bucket": "models", "key": "b"},
    {"command": "pause", "download_id": "x"},
    {"command": "cancel", "download_id": "x"},
    {"command": "limits", "max_bandwidth": 1_000},
    {"command": "limits", "max_bandwidth": 1_000, "download_id": "x"},
    {"command": "model_add", "model_meta": {"model_id": "n"}},
    {"command": "model_delete", "model_id": "m"},
]


@pytest.mark.parametrize(
    "statement", [WRITES, "INTO inbox", "INTO outbox"], ids=["all", "commands", "responses"]
)
async def test_on_a_full_disk_commands_that_read_are_answered(rig: Rig, statement: str) -> None:
    rig.source.objects = {"a": 10}
    rig.engine.hold("a")
    async with rig.running():
        await rig.download("a", "x")
        await rig.engine.stands_at("a")
        await rig.ask("model_add", model_meta={"model_id": "m", "model_version": "1"})
        with rig.disk.full(statement):
            for fields in READING:
                response = await rig.ask(**fields)
                assert response["success"], response
        assert response["model"]["model_version"] == "1"
        assert rig.disk.refused >= len(READING)


@pytest.mark.parametrize("statement", [WRITES, "INTO outbox"], ids=["all", "responses"])
async def test_on_a_full_disk_commands_that_change_are_refused(rig: Rig, statement: str) -> None:
    rig.source.objects = {"a": 10, "b": 10}
    rig.engine.hold("a")
    async with rig.running():
        await rig.download("a", "x")
        await rig.engine.stands_at("a")
        await rig.ask("model_add", model_meta={"model_id": "m"})
        with rig.disk.full(statement):
            for fields in CHANGING:
                response = await rig.ask(**fields)
                assert response["error_code"] == "disk_full", response
        assert await rig.listed() == {"x": "downloading"}
    answered = len(rig.said)
    async with rig.running():  # what was refused is not carried out now
        assert (await rig.listed()).keys() == {"x"}
        assert [m["model_id"] for m in (await rig.ask("model_list"))["models"]] == ["m"]
        assert (await rig.ask("limits"))["max_bandwidth"] == 0
        assert len(rig.said) == answered + 3


async def test_the_status_goes_on_while_the_progress_cannot_be_saved(rig: Rig) -> None:
    rig.source.objects = {"a": 10}
    rig.engine.hold("a")
    rig.configuration["ProcessInterval"] = 0.1
    async with rig.running():
        await rig.download("a", "x")
        await rig.engine.stands_at("a")
        with rig.disk.full(WRITES):
            heard = len(rig.statuses)
            await rig.until(lambda: len(rig.statuses) > heard + 3 and rig.disk.refused > 3)
            assert rig.told("x")["status"] == "downloading"
        rig.engine.release()
        await rig.completed("x")
