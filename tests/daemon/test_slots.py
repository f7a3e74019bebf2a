"""A slot of MaxConcurrentDownloads is reused only after the record that freed it is on disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State
from s3downloader.store import Change

from ..support import ManualClock
from .harness import Harness

Frees = Callable[[Harness, ManualClock], Awaitable[None]]


async def begun(harness: Harness, **fields: object) -> None:
    """Start the first download, and hold it before its end."""
    harness.engine.hold("first/b")
    await harness.download("first/", "first", "first", **fields)
    await harness.engine.stands_at("first/b")


async def pause(harness: Harness, clock: ManualClock) -> None:
    await begun(harness)
    await harness.send("pause", download_id="first")


async def cancel(harness: Harness, clock: ManualClock) -> None:
    await begun(harness)
    await harness.send("cancel", download_id="first")


async def time_out(harness: Harness, clock: ManualClock) -> None:
    await begun(harness, timeout=60)
    await harness.pass_time(61)


async def lose_a_file(harness: Harness, clock: ManualClock) -> None:
    await begun(harness)
    [staged] = harness.downloads.rglob("files/a")
    staged.unlink()
    harness.engine.release()


async def complete(harness: Harness, clock: ManualClock) -> None:
    await begun(harness)
    harness.engine.release()


def meet(code: ErrorCode) -> Frees:
    async def meet(harness: Harness, clock: ManualClock) -> None:
        harness.source.error = DownloaderError(code, "the source is not to be had")
        await harness.download("first/", "first", "first")

    return meet


class Records:
    """The states of downloads in the order of their records, noted just before each is written."""

    def __init__(self, harness: Harness, held: State) -> None:
        """Hold the record that brings the first download into the state `held`."""
        self.seen: list[tuple[str, State]] = []
        self.gate = harness.hold("record", self._holds)
        self._held = held

    def _holds(self, change: Change) -> bool:
        entered = [(d.download_id, d.state) for d in change.downloads if d.plan]
        self.seen += entered
        return ("first", self._held) in entered


@pytest.fixture
def device(harness: Harness) -> Harness:
    """A device with one slot and two downloads."""
    harness.source.objects = {"first/a": 10, "first/b": 10, "second": 10}
    harness.configuration["MaxConcurrentDownloads"] = 1
    return harness


@pytest.mark.parametrize(
    ("frees", "state"),
    [
        (pause, State.PAUSED),
        (cancel, State.CANCELLED),
        (time_out, State.FAILED),
        (meet(ErrorCode.ACCESS_DENIED), State.FAILED),
        (meet(ErrorCode.NETWORK_UNREACHABLE), State.WAITING),
        (lose_a_file, State.QUEUED),
        (complete, State.COMPLETED),
    ],
    ids=["pause", "cancel", "timeout", "failure", "waiting", "begin-again", "completed"],
)
async def test_a_slot_is_given_on_once_its_end_is_on_disk(
    device: Harness, clock: ManualClock, frees: Frees, state: State
) -> None:
    async with device.running():
        records = Records(device, state)
        await frees(device, clock)
        await records.gate.reached()
        device.source.error = None
        await device.download("second", "second")
        await device.send_and_wait(
            "list"
        )  # a download that does not wait for the record has started by now
        before = [*records.seen]
        records.gate.open()
        await device.completed("second")
        assert ("second", State.PLANNING) not in before
        assert before[-1] == ("first", state)


async def test_a_pause_that_cannot_be_recorded_frees_no_slot(device: Harness) -> None:
    async with device.running():
        await begun(device)
        await device.download("second", "second")
        with device.disk.full('"state":"paused"'):
            refusal = await device.ask("pause", download_id="first")
        assert refusal["error_code"] == "disk_full"
        records = Records(device, State.COMPLETED)
        await device.engine.stands_at("first/b")
        device.engine.release()
        await records.gate.reached()
        records.gate.open()
        await device.completed("first", "second")
        completed = records.seen.index(("first", State.COMPLETED))
        assert ("second", State.PLANNING) in records.seen[completed:]
        assert ("second", State.PLANNING) not in records.seen[:completed]
