"""Faults that pass by themselves are waited out, for however long they last."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from s3downloader.core.errors import TRANSIENT, DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .rig import Rig

TRIES = 1_150


async def test_a_network_that_is_away_for_very_long_is_asked_once_a_minute(
    rig: Rig, clock: ManualClock
) -> None:
    rig.source.objects = {"a": 10}
    rig.source.error = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")
    waits: list[float] = []
    async with rig.running():
        await rig.download("a", "x")
        while len(waits) < TRIES:
            wait = await clock.next_sleep()
            if wait >= rig.configuration["ProcessInterval"]:
                continue
            waits.append(wait)
            clock.wake()
            rig.check_up()
        rig.source.error = None
        await rig.while_time_passes(lambda: rig.event("download_completed", "x"))
    assert rig.source.tries >= TRIES
    assert [wait <= 2**n for n, wait in enumerate(waits[:6])] == [True] * 6
    assert all(30 <= wait <= 60 for wait in waits[6:])


@pytest.mark.parametrize(
    ("transient", "state"),
    [
        (TRANSIENT, State.FAILED),
        (TRANSIENT | {ErrorCode.CREDENTIALS_UNAVAILABLE}, State.WAITING),
    ],
)
async def test_credentials_that_are_away_are_waited_for_where_they_come_back_by_themselves(
    rig: Rig, clock: ManualClock, transient: frozenset[ErrorCode], state: State
) -> None:
    rig.source.objects = {"a": 10}
    rig.source.error = DownloaderError(ErrorCode.CREDENTIALS_UNAVAILABLE, "there are none")
    rig.transient = transient
    async with rig.running():
        await rig.download("a", "x")
        await rig.becomes(state, "x")
        assert rig.told("x")["error_code"] == "credentials_unavailable"
        rig.source.error = None
        if state is State.FAILED:
            await rig.ask("resume", download_id="x")
        await rig.while_time_passes(lambda: rig.event("download_completed", "x"))


async def test_a_lack_of_threads_passes(
    rig: Rig, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lack(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    rig.source.objects = {"a": 10}
    async with rig.running():
        with monkeypatch.context() as patch:
            patch.setattr(rig.engine, "fetch", lack)
            await rig.download("a", "x")
            await rig.becomes(State.WAITING, "x")
            assert rig.told("x")["error_code"] == "resources_exhausted"
        await rig.while_time_passes(lambda: rig.event("download_completed", "x"))


async def test_publishing_goes_on_once_there_are_descriptors(
    rig: Rig, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def lack(place: Path) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files", str(place))

    rig.source.objects = {"a": 10}
    async with rig.running():
        with monkeypatch.context() as patch:
            patch.setattr("s3downloader.downloads.publishing.publish.sync_above", lack)
            await rig.download("a", "x", "new")
            await rig.while_time_passes(lambda: tries > 2)
            assert rig.told("x")["status"] == "publishing"
            [notice] = rig.notices
            assert (notice["level"], notice["error_code"]) == ("warning", "resources_exhausted")
        await rig.while_time_passes(lambda: rig.event("download_completed", "x"))
    assert rig.events("x") == ["download_started", "download_completed"]


async def test_a_command_without_free_descriptors_is_refused_with_why(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(path: Path) -> list[Path]:
        raise OSError(errno.EMFILE, "Too many open files", "/proc/self/mountinfo")

    monkeypatch.setattr("s3downloader.downloads.planning.path_safety.mounts_below", lack)
    rig.source.objects = {"a": 10}
    async with rig.running():
        refusal = await rig.download("a", "x", publish="replace")
        assert refusal["error_code"] == "resources_exhausted"
        assert "/proc/self/mountinfo" in refusal["error"]
        assert await rig.listed() == {}
