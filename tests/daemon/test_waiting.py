"""Downloads wait for transient errors to pass, however long that takes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from s3downloader.core.errors import TRANSIENT, DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .harness import Harness

TRIES = 1_150


async def test_an_unreachable_network_is_tried_once_a_minute_at_last(
    harness: Harness, clock: ManualClock
) -> None:
    harness.source.objects = {"a": 10}
    harness.source.error = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")
    waits: list[float] = []
    async with harness.running():
        await harness.download("a", "x")
        while len(waits) < TRIES:
            wait = await clock.next_sleep()
            if wait >= harness.configuration["ProcessInterval"]:
                continue
            waits.append(wait)
            clock.wake()
            harness.check_up()
        harness.source.error = None
        await harness.while_time_passes(lambda: harness.event("download_completed", "x"))
    assert harness.source.tries >= TRIES
    assert [wait <= 2**n for n, wait in enumerate(waits[:6])] == [True] * 6
    assert all(30 <= wait <= 60 for wait in waits[6:])


@pytest.mark.parametrize(
    ("transient", "state"),
    [
        (TRANSIENT, State.FAILED),
        (TRANSIENT | {ErrorCode.CREDENTIALS_UNAVAILABLE}, State.WAITING),
    ],
)
async def test_missing_credentials_are_waited_for_only_where_transient(
    harness: Harness, clock: ManualClock, transient: frozenset[ErrorCode], state: State
) -> None:
    harness.source.objects = {"a": 10}
    harness.source.error = DownloaderError(ErrorCode.CREDENTIALS_UNAVAILABLE, "there are none")
    harness.transient = transient
    async with harness.running():
        await harness.download("a", "x")
        await harness.becomes(state, "x")
        assert harness.status_of("x")["error_code"] == "credentials_unavailable"
        harness.source.error = None
        if state is State.FAILED:
            await harness.ask("resume", download_id="x")
        await harness.while_time_passes(lambda: harness.event("download_completed", "x"))


async def test_a_lack_of_threads_passes(
    harness: Harness, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lack(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    harness.source.objects = {"a": 10}
    async with harness.running():
        with monkeypatch.context() as patch:
            patch.setattr(harness.engine, "fetch", lack)
            await harness.download("a", "x")
            await harness.becomes(State.WAITING, "x")
            assert harness.status_of("x")["error_code"] == "resources_exhausted"
        await harness.while_time_passes(lambda: harness.event("download_completed", "x"))


async def test_publishing_goes_on_once_there_are_descriptors(
    harness: Harness, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def lack(place: Path) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files", str(place))

    harness.source.objects = {"a": 10}
    async with harness.running():
        with monkeypatch.context() as patch:
            patch.setattr("s3downloader.downloads.publishing.publish.sync_above", lack)
            await harness.download("a", "x", "new")
            await harness.while_time_passes(lambda: tries > 2)
            assert harness.status_of("x")["status"] == "publishing"
            [notice] = harness.notices
            assert (notice["level"], notice["error_code"]) == ("warning", "resources_exhausted")
        await harness.while_time_passes(lambda: harness.event("download_completed", "x"))
    assert harness.events("x") == ["download_started", "download_completed"]


async def test_a_command_without_free_descriptors_is_refused_with_why(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(path: Path) -> list[Path]:
        raise OSError(errno.EMFILE, "Too many open files", "/proc/self/mountinfo")

    monkeypatch.setattr("s3downloader.downloads.planning.path_safety.mounts_below", lack)
    harness.source.objects = {"a": 10}
    async with harness.running():
        refusal = await harness.download("a", "x", publish="replace")
        assert refusal["error_code"] == "resources_exhausted"
        assert "/proc/self/mountinfo" in refusal["error"]
        assert await harness.listed() == {}
