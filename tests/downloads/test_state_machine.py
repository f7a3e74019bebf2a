"""The only writer of records: what it writes at once, and what it writes with the next change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import Failure, Options, State
from s3downloader.downloads.active_download import ActiveDownload
from s3downloader.downloads.state_machine import CommandContext, StateMachine
from s3downloader.store import RESPONSES, Change, Totals
from s3downloader.store.outbox import Outbox

from ..daemon.disk import Gate, GatedStore, Gates
from ..support import ManualClock
from .support import a_download

CONTEXT = CommandContext("c", lambda download: b"{}")


@dataclass
class Bench:
    """A state machine on a real store, and one queued download."""

    machine: StateMachine
    active: ActiveDownload
    store: GatedStore
    clock: ManualClock
    gates: Gates

    async def recorded(self) -> Any:
        [download] = await self.store.downloads()
        return download

    def hold(self) -> Gate:
        """Hold all records from now on."""
        gate = Gate()
        self.gates["record"] = (lambda change: isinstance(change, Change), gate)
        return gate


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock, gates = ManualClock(now=1_000.0), Gates()
    store = GatedStore(tmp_path / "state", gates=gates)

    async def publish(message: bytes) -> None:
        raise NotImplementedError

    machine = StateMachine(
        Outbox(store, {RESPONSES: publish}, clock), clock, lambda: 100_000, on_change=lambda _: None
    )
    active = ActiveDownload(a_download(tmp_path), clock)
    await machine.open(active, CONTEXT)
    yield Bench(machine, active, store, clock, gates)
    await store.close()


def test_a_record_is_read_only(tmp_path: Path) -> None:
    active = ActiveDownload(a_download(tmp_path), ManualClock())
    for name in ("download", "entered"):
        with pytest.raises(AttributeError):
            setattr(active, name, None)


async def test_a_state_is_entered_when_its_record_is_on_disk(bench: Bench) -> None:
    gate = bench.hold()
    pausing = asyncio.create_task(bench.machine.pause(bench.active, CONTEXT))
    await gate.reached()
    before = bench.active.download
    gate.open()
    await pausing
    after = bench.active.download
    assert (before.state, after.state) == (State.QUEUED, State.PAUSED)
    assert await bench.recorded() == after


async def test_what_changes_meanwhile_goes_with_the_next_record(bench: Bench) -> None:
    gate = bench.hold()
    planning = asyncio.create_task(bench.machine.begin_plan(bench.active))
    await gate.reached()
    bench.machine.planned(bench.active, Totals(100, 4, 0, 0, 0))
    bench.machine.files_done(bench.active, 3)
    gate.open()
    await planning
    assert (await bench.recorded()).files_done == 0
    expected = (State.PLANNING, 1, 100, 3)
    record = bench.active.download
    assert (record.state, record.plan, record.bytes_total, record.files_done) == expected
    await bench.machine.begin_fetch(bench.active)
    assert (await bench.recorded()).files_done == 3


async def test_a_requeued_download_is_recorded_with_the_next(bench: Bench) -> None:
    await bench.machine.begin_plan(bench.active)
    bench.machine.requeue(bench.active)
    assert bench.active.download.state is State.QUEUED
    assert (await bench.recorded()).state is State.PLANNING
    await bench.machine.begin_plan(bench.active)
    assert (await bench.recorded()).plan == 2


async def test_progress_is_recorded_with_its_times(bench: Bench) -> None:
    await bench.machine.begin_plan(bench.active)
    bench.clock.advance(5)
    await bench.machine.save_progress([bench.active])
    bench.clock.advance(2)
    record = await bench.recorded()
    assert (record.seconds, record.active_seconds) == (5, 5)
    assert bench.active.seconds(bench.clock.monotonic()) == 7
    await bench.machine.wait(bench.active, Failure(ErrorCode.TIMEOUT, "away"))
    bench.clock.advance(100)
    await bench.machine.fail(bench.active, Failure(ErrorCode.ACCESS_DENIED, "denied"))
    record = await bench.recorded()
    assert (record.seconds, record.active_seconds) == (7, 107)


async def test_a_state_that_the_table_forbids_is_refused(bench: Bench) -> None:
    with pytest.raises(DownloaderError) as caught:
        await bench.machine.complete(bench.active, also=Change())
    assert caught.value.code is ErrorCode.INVALID_STATE
    assert (await bench.recorded()).state is State.QUEUED


async def test_the_response_to_changed_options_is_as_old_as_they(bench: Bench) -> None:
    bench.clock.advance(5_000)
    options = Options(max_bandwidth=7)
    context = CommandContext("limit", lambda d: msgspec.json.encode(d.options.max_bandwidth))
    await bench.machine.amend(bench.active, options, context)
    assert bench.active.download.options == options
    await bench.store.delete_responses(before=5_000, most=100)
    assert await bench.store.response("limit") == b"7"
