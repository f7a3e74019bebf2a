"""Commands that were not answered when the daemon ended are carried out by the next one, once."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from s3downloader.control.service import MAX_CONCURRENT

from ..support import ManualClock
from .harness import Harness, Message


def inbox(harness: Harness) -> list[tuple[str, bytes]]:
    """Return the commands on disk that are not answered."""
    with closing(sqlite3.connect(harness.directory / "state" / "state.db")) as state:
        return state.execute("SELECT command_id, payload FROM inbox ORDER BY number").fetchall()


def responses(harness: Harness) -> list[Message]:
    return [message for message in harness.messages if "event" not in message]


async def test_commands_under_way_at_the_end_are_carried_out_once(harness: Harness) -> None:
    async with harness.running():
        recording = harness.hold("record", lambda change: bool(change.responses))
        for n in range(5):
            await harness.send("model_add", model_meta={"model_id": "m", "model_version": str(n)})
        await recording.reached()
    assert responses(harness) == []
    assert [command_id for command_id, _ in inbox(harness)] == ["c1", "c2", "c3", "c4", "c5"]
    recording.open()
    async with harness.running():
        await harness.until(lambda: len(responses(harness)) == 5)
        versions = [message["model"]["model_version"] for message in responses(harness)]
        assert versions == ["0", "1", "2", "3", "4"]
    assert inbox(harness) == []


async def test_a_command_without_an_id_keeps_the_one_it_was_given(harness: Harness) -> None:
    async with harness.running():
        recording = harness.hold("record", lambda change: bool(change.responses))
        await harness.send("model_add", command_id=None, model_meta={"model_id": "m"})
        await recording.reached()
    [(command_id, _)] = inbox(harness)
    assert command_id.startswith("generated-")
    recording.open()
    async with harness.running():
        await harness.until(lambda: responses(harness))
        assert [message["command_id"] for message in responses(harness)] == [command_id]
    assert inbox(harness) == []


async def test_a_command_that_was_answered_is_not_carried_out_again(harness: Harness) -> None:
    harness.source.objects = {"a": 10}
    async with harness.running():
        await harness.download("a", "x")
        await harness.completed("x")
        await harness.ask("pause", download_id="nope")
        await harness.send("nonsense", command_id=None)
        await harness.until(lambda: len(responses(harness)) == 3)
    assert inbox(harness) == []
    async with harness.running():
        assert await harness.listed() == {"x": "completed"}
        assert len(responses(harness)) == 4


async def test_a_command_that_ends_every_process_is_given_up(harness: Harness) -> None:
    recording = harness.hold("record", lambda change: bool(change.responses and change.models))
    async with harness.running():
        await harness.send("model_add", model_meta={"model_id": "m"})
        await recording.reached()
    for _ in range(4):
        async with harness.running():
            await recording.reached()
        assert len(inbox(harness)) == 1
    async with harness.running():
        [refusal] = await harness.responses("c1")
        assert refusal["error_code"] == "internal_error"
        assert "ended 5 times" in refusal["error"]
        recording.open()
        assert (await harness.ask("model_add", model_meta={"model_id": "m"}))["success"]
    assert inbox(harness) == []


async def test_each_of_several_deliveries_leaves_the_inbox(harness: Harness) -> None:
    async with harness.running():
        for _ in range(3):
            await harness.send("disk_space", command_id="c")
        given = await harness.responses("c", 3)
        assert given == [given[0]] * 3
    assert inbox(harness) == []


async def test_more_commands_than_run_at_once_keep_their_order(
    harness: Harness,
) -> None:
    ids = [f"n{n}" for n in range(300)]
    begun: list[str] = []
    async with harness.running():

        def begins(command_id: str) -> bool:
            begun.append(command_id)
            return True

        looking_up = harness.hold("response", begins)
        for command_id in ids:
            await harness.send("disk_space", command_id=command_id)
        await harness.until(lambda: len(inbox(harness)) == len(ids))
        await harness.until(lambda: len(begun) >= MAX_CONCURRENT)
        assert begun == ids[:MAX_CONCURRENT]
        looking_up.open()
        await harness.until(lambda: len(responses(harness)) == len(ids))
        assert [message["command_id"] for message in responses(harness)] == ids


async def test_responses_outlive_a_link_that_is_away_and_a_stop(
    harness: Harness, clock: ManualClock
) -> None:
    harness.source.objects = {"a": 10}
    async with harness.running():
        recording = harness.hold("record", lambda change: bool(change.responses))
        sent = await harness.send(
            "download",
            bucket="models",
            key="a",
            download_id="x",
            destination=str(harness.downloads),
        )
        await recording.reached()
        harness.hub.online = False
        recording.open()
        await harness.until(lambda: (harness.downloads / "a").exists())
        await clock.next_sleep()
    assert harness.messages == []
    harness.hub.online = True
    async with harness.running():
        await harness.completed("x")
        assert [m.get("event", m["command_id"]) for m in harness.messages] == [
            sent,
            "download_started",
            "download_completed",
        ]


async def test_what_waits_goes_out_when_the_link_is_back(
    harness: Harness, clock: ManualClock
) -> None:
    harness.source.objects = {"a": 10}
    harness.engine.hold("a")
    async with harness.running():
        await harness.download("a", "x")
        await harness.wait_for_event("download_started", "x")
        harness.hub.online = False
        harness.engine.release()
        await harness.until(lambda: (harness.downloads / "a").exists())
        while not 1 < await clock.next_sleep() < 2:  # the task of the outbox
            continue
        harness.hub.online = True
        await harness.completed("x")
