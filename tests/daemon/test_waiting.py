"""Faults that pass by themselves are waited out, for however long they last."""

from __future__ import annotations

import pytest

from s3downloader.errors import TRANSIENT, DownloaderError, ErrorCode
from s3downloader.records import State

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
