"""Commands that meet each other, or a download on its way, at the worst moment."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State
from s3downloader.store import Change

from ..support import ManualClock
from .rig import Rig, reaches

DENIED = DownloaderError(ErrorCode.ACCESS_DENIED, "the store refused it")
AWAY = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")


def outcome(burst: tuple[str, ...]) -> tuple[str, list[bool]]:
    """The state that commands lead to, taken in their order, and which of them are accepted."""
    allowed = {
        "download": {"none": "downloading"},
        "pause": {"downloading": "paused"},
        "cancel": {"downloading": "cancelled", "paused": "cancelled"},
        "resume": {"paused": "downloading"},
    }
    state, accepted = "none", []
    for command in burst:
        accepted.append(state in allowed[command])
        state = allowed[command].get(state, state)
    return state, accepted


BURSTS = [
    burst
    for commands in [("download", "pause"), ("download", "cancel"), ("download", "pause", "cancel")]
    for burst in permutations(commands)
] + [("download", "pause", "resume"), ("download", "pause", "resume", "cancel")]


@pytest.mark.parametrize("slot", ["free", "taken"])
@pytest.mark.parametrize("burst", BURSTS, ids="-".join)
async def test_a_burst_of_commands_is_carried_out_in_its_order(
    rig: Rig, burst: tuple[str, ...], slot: str
) -> None:
    rig.source.objects = {"a": 10, "first": 10, "last": 10}
    rig.engine.hold(*rig.source.objects)
    rig.configuration["MaxConcurrentDownloads"] = 1
    async with rig.running():
        if slot == "taken":
            await rig.download("first", "first")
            await rig.engine.stands_at("first")
        ids = [
            await rig.send(
                command,
                download_id="x",
                **({"bucket": "models", "key": "a"} if command == "download" else {}),
            )
            for command in burst
        ]
        state, accepted = outcome(burst)
        assert [(await rig.responses(i))[0]["success"] for i in ids] == accepted

        rig.engine.release()
        await rig.download("last", "last")
        await rig.completed("last", *(["first"] if slot == "taken" else []))
        if state == "downloading":
            await rig.completed("x")
        if state == "paused":
            assert (await rig.ask("resume", download_id="x"))["success"]
            await rig.completed("x")
        assert ("a" in rig.files()) == (state != "cancelled")
        assert not (rig.downloads / ".s3downloader").exists()


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("cancel", "cancelled")])
async def test_a_command_may_come_at_any_step_of_a_download(
    rig: Rig, command: str, state: str
) -> None:
    ids = [f"x{n}" for n in range(40)]
    rig.source.objects = {f"{i}/a": 10 for i in ids} | {"last": 10}
    rig.engine.hold(*rig.source.objects)
    rig.configuration["MaxConcurrentDownloads"] = 1
    async with rig.running():
        for steps, i in enumerate(ids):
            await rig.download(f"{i}/a", i, i)
            for _ in range(steps):
                await asyncio.sleep(0)
            assert (await rig.ask(command, download_id=i))["status"] == state
        assert not rig.engine.standing
        assert set((await rig.listed()).values()) == {state}
        rig.engine.release()
        await rig.download("last", "last")
        await rig.completed("last")
        assert rig.files() == {"last"}


ACCEPTED = {"pause": "paused", "cancel": "cancelled"}


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        (State.PLANNING, {"resume"}),
        (State.DOWNLOADING, {"resume"}),
        (State.VERIFYING, {"resume"}),
        (State.PUBLISHING, {"pause", "cancel", "resume"}),
        (State.COMPLETED, {"pause", "cancel", "resume"}),
        (State.FAILED, {"pause", "resume"}),
        (State.WAITING, {"resume"}),
        (State.QUEUED, {"resume"}),  # at the end of a wait
    ],
)
@pytest.mark.parametrize("command", ["pause", "cancel", "resume"])
async def test_a_command_that_meets_the_record_of_a_state_strands_nothing(
    rig: Rig, clock: ManualClock, state: State, refused: set[str], command: str
) -> None:
    def enters(change: Change) -> bool:
        return reaches(state)(change) and change.downloads[0].plan > 0

    rig.source.objects = {"a": 10, "last": 10}
    rig.source.error = {State.WAITING: AWAY, State.QUEUED: AWAY, State.FAILED: DENIED}.get(state)
    async with rig.running():
        recording = rig.hold("record", enters)
        await rig.download("a", "x")
        await rig.while_time_passes(lambda: recording.is_reached)
        late = await rig.send_and_wait(command, download_id="x")
        rig.source.error = None
        rig.engine.hold("a")
        recording.open()
        [response] = await rig.responses(late)

        await rig.download("last", "last")
        await rig.completed("last")
        if command in refused:
            assert response["error_code"] == "invalid_state"
        else:
            assert response["status"] == ACCEPTED[command]
            assert not rig.engine.standing
            assert (await rig.listed())["x"] == ACCEPTED[command]
        rig.engine.release()
        if (await rig.listed())["x"] in ("paused", "failed"):
            await rig.ask("resume", download_id="x")
        if response.get("status") != "cancelled":
            await rig.while_time_passes(lambda: rig.event("download_completed", "x"))
