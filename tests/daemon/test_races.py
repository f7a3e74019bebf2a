"""Commands arrive at the same time, or at the worst moment of a download."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State
from s3downloader.store import Change

from ..support import ManualClock
from .harness import Harness, reaches

DENIED = DownloaderError(ErrorCode.ACCESS_DENIED, "the store refused it")
AWAY = DownloaderError(ErrorCode.NETWORK_UNREACHABLE, "the network is away")


def outcome(burst: tuple[str, ...]) -> tuple[str, list[bool]]:
    """Return the final state after these commands in order, and which of them are accepted."""
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
    harness: Harness, burst: tuple[str, ...], slot: str
) -> None:
    harness.source.objects = {"a": 10, "first": 10, "last": 10}
    harness.engine.hold(*harness.source.objects)
    harness.configuration["MaxConcurrentDownloads"] = 1
    async with harness.running():
        if slot == "taken":
            await harness.download("first", "first")
            await harness.engine.stands_at("first")
        ids = [
            await harness.send(
                command,
                download_id="x",
                **({"bucket": "models", "key": "a"} if command == "download" else {}),
            )
            for command in burst
        ]
        state, accepted = outcome(burst)
        assert [(await harness.responses(i))[0]["success"] for i in ids] == accepted

        harness.engine.release()
        await harness.download("last", "last")
        await harness.completed("last", *(["first"] if slot == "taken" else []))
        if state == "downloading":
            await harness.completed("x")
        if state == "paused":
            assert (await harness.ask("resume", download_id="x"))["success"]
            await harness.completed("x")
        assert ("a" in harness.files()) == (state != "cancelled")
        assert not (harness.downloads / ".s3downloader").exists()


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("cancel", "cancelled")])
async def test_a_command_may_come_at_any_step_of_a_download(
    harness: Harness, command: str, state: str
) -> None:
    ids = [f"x{n}" for n in range(40)]
    harness.source.objects = {f"{i}/a": 10 for i in ids} | {"last": 10}
    harness.engine.hold(*harness.source.objects)
    harness.configuration["MaxConcurrentDownloads"] = 1
    async with harness.running():
        for steps, i in enumerate(ids):
            await harness.download(f"{i}/a", i, i)
            for _ in range(steps):
                await asyncio.sleep(0)
            assert (await harness.ask(command, download_id=i))["status"] == state
        assert not harness.engine.standing
        assert set((await harness.listed()).values()) == {state}
        harness.engine.release()
        await harness.download("last", "last")
        await harness.completed("last")
        assert harness.files() == {"last"}


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
        (State.QUEUED, {"resume"}),  # when a wait ends
    ],
)
@pytest.mark.parametrize("command", ["pause", "cancel", "resume"])
async def test_a_command_during_the_record_of_a_state_strands_nothing(
    harness: Harness, clock: ManualClock, state: State, refused: set[str], command: str
) -> None:
    def enters(change: Change) -> bool:
        return reaches(state)(change) and change.downloads[0].plan > 0

    harness.source.objects = {"a": 10, "last": 10}
    harness.source.error = {State.WAITING: AWAY, State.QUEUED: AWAY, State.FAILED: DENIED}.get(
        state
    )
    async with harness.running():
        recording = harness.hold("record", enters)
        await harness.download("a", "x")
        await harness.while_time_passes(lambda: recording.is_reached)
        late = await harness.send_and_wait(command, download_id="x")
        harness.source.error = None
        harness.engine.hold("a")
        recording.open()
        [response] = await harness.responses(late)

        await harness.download("last", "last")
        await harness.completed("last")
        if command in refused:
            assert response["error_code"] == "invalid_state"
        else:
            assert response["status"] == ACCEPTED[command]
            assert not harness.engine.standing
            assert (await harness.listed())["x"] == ACCEPTED[command]
        harness.engine.release()
        if (await harness.listed())["x"] in ("paused", "failed"):
            await harness.ask("resume", download_id="x")
        if response.get("status") != "cancelled":
            await harness.while_time_passes(lambda: harness.event("download_completed", "x"))
