"""Commands that had arrived when the daemon ended are carried out by the next one, once."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from s3downloader.control.service import AT_ONCE

from ..support import ManualClock
from .rig import Message, Rig


def inbox(rig: Rig) -> list[tuple[str, bytes]]:
    """The commands that are not answered, as they are on disk."""
    with closing(sqlite3.connect(rig.directory / "state" / "state.db")) as state:
        return state.execute("SELECT command_id, payload FROM inbox ORDER BY number").fetchall()


def responses(rig: Rig) -> list[Message]:
    return [message for message in rig.said if "event" not in message]


async def test_commands_under_way_at_the_end_are_carried_out_once(rig: Rig) -> None:
    async with rig.running():
        recording = rig.hold("record", lambda change: bool(change.answers))
        for n in range(5):
            await rig.send("model_add", model_meta={"model_id": "m", "model_version": str(n)})
        await recording.reached()
    assert responses(rig) == []
    assert [command_id for command_id, _ in inbox(rig)] == ["c1", "c2", "c3", "c4", "c5"]
    recording.open()
    async with rig.running():
        await rig.until(lambda: len(responses(rig)) == 5)
        versions = [message["model"]["model_version"] for message in responses(rig)]
        assert versions == ["0", "1", "2", "3", "4"]
    assert inbox(rig) == []


async def test_a_command_without_an_id_keeps_the_one_it_was_given(rig: Rig) -> None:
    async with rig.running():
        recording = rig.hold("record", lambda change: bool(change.answers))
        await rig.send("model_add", command_id=None, model_meta={"model_id": "m"})
        await recording.reached()
    [(command_id, _)] = inbox(rig)
    assert command_id.startswith("generated-")
    recording.open()
    async with rig.running():
        await rig.until(lambda: responses(rig))
        assert [message["command_id"] for message in responses(rig)] == [command_id]
    assert inbox(rig) == []


async def test_a_command_that_was_answered_is_not_carried_out_again(rig: Rig) -> None:
    rig.source.objects = {"a": 10}
    async with rig.running():
        await rig.download("a", "x")
        await rig.completed("x")
        await rig.ask("pause", download_id="nope")
        await rig.send("nonsense", command_id=None)
        await rig.until(lambda: len(responses(rig)) == 3)
    assert inbox(rig) == []
    async with rig.running():
        assert await rig.listed() == {"x": "completed"}
        assert len(responses(rig)) == 4


async def test_a_command_that_ends_every_process_is_given_up(rig: Rig) -> None:
    recording = rig.hold("record", lambda change: bool(change.answers and change.models))
    async with rig.running():
        await rig.send("model_add", model_meta={"model_id": "m"})
        await recording.reached()
    for _ in range(4):
        async with rig.running():
            await recording.reached()
        assert len(inbox(rig)) == 1
    async with rig.running():
        [refusal] = await rig.responses("c1")
        assert refusal["error_code"] == "internal_error"
        assert "ended 5 times" in refusal["error"]
        recording.open()
        assert (await rig.ask("model_add", model_meta={"model_id": "m"}))["success"]
    assert inbox(rig) == []


async def test_each_of_several_deliveries_leaves_the_inbox(rig: Rig) -> None:
    async with rig.running():
        for _ in range(3):
            await rig.send("disk_space", command_id="c")
        given = await rig.responses("c", 3)
        assert given == [given[0]] * 3
    assert inbox(rig) == []


async def test_more_commands_than_are_carried_out_at_once_keep_their_order(rig: Rig) -> None:
    ids = [f"n{n}" for n in range(300)]
    begun: list[str] = []
    async with rig.running():

        def begins(command_id: str) -> bool:
            begun.append(command_id)
            return True

        looking_up = rig.hold("answer", begins)
        for command_id in ids:
            await rig.send("disk_space", command_id=command_id)
        await rig.until(lambda: len(inbox(rig)) == len(ids))
        await rig.until(lambda: len(begun) >= AT_ONCE)
        assert begun == ids[:AT_ONCE]
        looking_up.open()
        await rig.until(lambda: len(responses(rig)) == len(ids))
        assert [message["command_id"] for message in responses(rig)] == ids


async def test_responses_outlive_a_link_that_is_away_and_a_stop(
    rig: Rig, clock: ManualClock
) -> None:
    rig.source.objects = {"a": 10}
    async with rig.running():
        recording = rig.hold("record", lambda change: bool(change.answers))
        sent = await rig.send(
            "download", bucket="models", key="a", download_id="x", destination=str(rig.downloads)
        )
        await recording.reached()
        rig.hub.online = False
        recording.open()
        await rig.until(lambda: (rig.downloads / "a").exists())
        await clock.next_sleep()
    assert rig.said == []
    rig.hub.online = True
    async with rig.running():
        await rig.completed("x")
        assert [m.get("event", m["command_id"]) for m in rig.said] == [
            sent,
            "download_started",
            "download_completed",
        ]


async def test_what_waits_goes_out_when_the_link_is_back(rig: Rig, clock: ManualClock) -> None:
    rig.source.objects = {"a": 10}
    rig.engine.hold("a")
    async with rig.running():
        await rig.download("a", "x")
        await rig.hears("download_started", "x")
        rig.hub.online = False
        rig.engine.release()
        await rig.until(lambda: (rig.downloads / "a").exists())
        while await clock.next_sleep() != 1:
            continue
        rig.hub.online = True
        await rig.completed("x")
