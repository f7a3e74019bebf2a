"""While the disk of StateDir is full, the daemon keeps running; afterwards it continues."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .harness import Harness

DENIED = DownloaderError(ErrorCode.ACCESS_DENIED, "the store refused it")
AWAY = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")
WRITES = "^(INSERT|UPDATE|DELETE)"
DAY = 86_400.0


def into(state: State) -> str:
    """Return a pattern for the record that brings a download into `state`."""
    return f'INTO downloads .*"state":"{state.value}"'


@asynccontextmanager
async def waiting(harness: Harness) -> AsyncIterator[None]:
    """Run the daemon, with a download x that waits for the network."""
    harness.source.objects = {"a": 10}
    harness.source.error = AWAY
    async with harness.running():
        await harness.download("a", "x")
        await harness.becomes(State.WAITING, "x")
        yield


@asynccontextmanager
async def halfway(harness: Harness) -> AsyncIterator[None]:
    """Run the daemon, with a download x of a and b that has a, and stops before b."""
    harness.source.objects = {"m/a": 10, "m/b": 10}
    harness.engine.hold("m/b")
    async with harness.running():
        await harness.download("m/", "x")
        await harness.engine.stands_at("m/b")
        yield


@pytest.mark.parametrize("times", [1, 3])
async def test_a_failure_is_recorded_as_soon_as_it_can_be(
    harness: Harness, clock: ManualClock, times: int
) -> None:
    harness.source.error = DENIED
    async with harness.running():
        with harness.disk.full(into(State.FAILED), times):
            await harness.download("a", "x")
            await harness.while_time_passes(lambda: harness.event("download_error", "x"))
        assert harness.disk.refused == times
        assert harness.events("x") == ["download_error"]


@pytest.mark.parametrize("times", [1, 3])
async def test_a_wait_is_recorded_as_soon_as_it_can_be_and_ends(
    harness: Harness, clock: ManualClock, times: int
) -> None:
    harness.source.objects = {"a": 10}
    harness.source.error = AWAY
    async with harness.running():
        with harness.disk.full(into(State.WAITING), times):
            await harness.download("a", "x")
            await harness.while_time_passes(lambda: harness.status_of("x")["status"] == "waiting")
        assert harness.disk.refused == times
        harness.source.error = None
        await harness.while_time_passes(lambda: harness.event("download_completed", "x"))


@pytest.mark.parametrize("times", [1, 3])
async def test_the_end_of_a_wait_is_recorded_as_soon_as_it_can_be(
    harness: Harness, clock: ManualClock, times: int
) -> None:
    async with waiting(harness):
        harness.source.error = None
        with harness.disk.full(into(State.QUEUED), times):
            await harness.while_time_passes(lambda: harness.event("download_completed", "x"))
        assert harness.disk.refused == times


async def test_stop_while_the_end_of_a_wait_cannot_be_recorded(
    harness: Harness, clock: ManualClock
) -> None:
    with ExitStack() as until_it_has_ended:
        async with waiting(harness):
            until_it_has_ended.enter_context(harness.disk.full(into(State.QUEUED)))
            await harness.while_time_passes(lambda: harness.disk.refused)
    harness.source.error = None
    async with harness.running():
        await harness.completed("x")


async def test_a_resume_that_cannot_be_recorded_ends_the_wait(
    harness: Harness, clock: ManualClock
) -> None:
    async with waiting(harness):
        harness.source.error = None
        with harness.disk.full(into(State.QUEUED)):
            await harness.while_time_passes(lambda: harness.disk.refused)
            refusal = await harness.ask("resume", download_id="x")
            assert refusal["error_code"] == "disk_full"
        await harness.completed("x")


@pytest.mark.parametrize("command", ["pause", "cancel"])
async def test_a_download_goes_on_though_a_command_cannot_be_recorded(
    harness: Harness, command: str
) -> None:
    async with halfway(harness):
        with harness.disk.full('"state":"(paused|cancelled)"'):
            refusal = await harness.ask(command, download_id="x")
        assert refusal["error_code"] == "disk_full"
        await harness.engine.stands_at("m/b")
        harness.engine.release()
        await harness.completed("x")
        assert harness.files() == {"a", "b"}


async def test_messages_that_cannot_be_deleted_are_published_again(
    harness: Harness,
) -> None:
    harness.source.objects = {"a": 10, "b": 10}
    expected_events = ["download_started", "download_completed"]
    harness.engine.hold("a")
    with harness.disk.full("DELETE FROM outbox"):
        async with harness.running():
            await harness.download("a", "x")
            await harness.until(
                lambda: harness.disk.refused
            )  # before other changes share its commit
            harness.engine.release()
            await harness.completed("x")
            assert harness.events("x") == expected_events
    async with harness.running():
        await harness.until(lambda: harness.events("x") == expected_events * 2)
        await harness.download("b", "y")
        await harness.completed("y")
    async with harness.running():
        assert (await harness.listed()) == {"x": "completed", "y": "completed"}
        assert harness.events("x") + harness.events("y") == expected_events * 3


async def test_a_command_whose_answer_cannot_be_looked_up_is_refused(harness: Harness) -> None:
    harness.source.objects = {"a": 10}
    async with harness.running():
        with harness.disk.full("SELECT response|INTO answers"):
            refusal = await harness.download("a", "x")
        assert refusal["error_code"] == "disk_full"
        assert await harness.listed() == {}
        assert (await harness.download("a", "x"))["success"]
        await harness.completed("x")


@pytest.mark.parametrize("statement", ["DELETE FROM downloads", "DELETE FROM answers"])
async def test_what_cannot_be_forgotten_is_forgotten_later(
    harness: Harness, clock: ManualClock, statement: str
) -> None:
    harness.source.error = DENIED
    async with harness.running():
        await harness.download("a", "x")
        await harness.wait_for_event("download_error", "x")
        clock.time += 8 * DAY
        with harness.disk.full(statement):
            await harness.while_time_passes(lambda: harness.disk.refused >= 2)
        await harness.while_time_passes(lambda: harness.status_of("x")["status"] is None)
        assert await harness.listed() == {}


async def test_a_start_on_a_full_disk_takes_up_what_was_under_way(
    harness: Harness, clock: ManualClock
) -> None:
    async with halfway(harness):
        pass
    harness.engine.release()
    with harness.disk.full(WRITES):
        async with harness.running():
            await harness.until(lambda: harness.disk.refused >= 3)
    async with harness.running():
        await harness.completed("x")
        assert harness.files() == {"a", "b"}


async def test_a_download_goes_on_once_there_is_space_again(
    harness: Harness, clock: ManualClock
) -> None:
    async with halfway(harness):
        pass
    harness.engine.release()
    with ExitStack() as until_there_is_space:
        until_there_is_space.enter_context(harness.disk.full(into(State.PLANNING)))
        async with harness.running():
            await harness.while_time_passes(lambda: harness.event("download_error", "x"))
            error = await harness.wait_for_event("download_error", "x")
            assert error["error_code"] == "disk_full"
            until_there_is_space.close()
            assert (await harness.ask("resume", download_id="x"))["success"]
            await harness.completed("x")


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
async def test_on_a_full_disk_commands_that_read_are_answered(
    harness: Harness, statement: str
) -> None:
    async with halfway(harness):
        await harness.ask("model_add", model_meta={"model_id": "m", "model_version": "1"})
        with harness.disk.full(statement):
            for fields in READING:
                response = await harness.ask(**fields)
                assert response["success"], response
        assert response["model"]["model_version"] == "1"
        assert harness.disk.refused >= len(READING)


@pytest.mark.parametrize("statement", [WRITES, "INTO outbox"], ids=["all", "responses"])
async def test_on_a_full_disk_commands_that_change_are_refused(
    harness: Harness, statement: str
) -> None:
    harness.source.objects = {"a": 10, "b": 10}
    harness.engine.hold("a")
    async with harness.running():
        await harness.download("a", "x")
        await harness.engine.stands_at("a")
        await harness.ask("model_add", model_meta={"model_id": "m"})
        with harness.disk.full(statement):
            for fields in CHANGING:
                response = await harness.ask(**fields)
                assert response["error_code"] == "disk_full", response
        assert await harness.listed() == {"x": "downloading"}
    answered = len(harness.messages)
    async with harness.running():  # a refused command is not carried out later
        assert (await harness.listed()).keys() == {"x"}
        assert [m["model_id"] for m in (await harness.ask("model_list"))["models"]] == ["m"]
        assert (await harness.ask("limits"))["max_bandwidth"] == 0
        assert len(harness.messages) == answered + 3


async def test_the_status_goes_on_while_the_progress_cannot_be_saved(harness: Harness) -> None:
    harness.configuration["ProcessInterval"] = 0.1
    async with halfway(harness):
        with harness.disk.full(WRITES):
            received = len(harness.statuses)
            await harness.until(
                lambda: len(harness.statuses) > received + 3 and harness.disk.refused > 3
            )
            assert harness.status_of("x")["status"] == "downloading"
        harness.engine.release()
        await harness.completed("x")
