"""The ranged engine continues after kill -9 and after a loss of power."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import msgspec
import pytest

from s3downloader.core.aio import stop
from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError
from s3downloader.core.records import FileRecord, Options
from sandbox.link import Link
from sandbox.servers import ObjectServer
from tests.support import ManualClock, eventually

from .losing_disk import LosingDisk
from .support import Files, Plan, Recorder, by_ranges, fetch_with, job

MIB = 1 << 20


async def continued(
    link: Link, staging: Path, plan: Plan, sink: Recorder, disk: LosingDisk | None = None
) -> None:
    """Recover and fetch the rest, as the next daemon does."""
    engine = by_ranges(link.endpoint, disk=disk)
    session = await engine.recover(job(staging, Options()), Files(missing(plan, sink)), sink)
    sink.total = 0  # another daemon counts anew
    await session.fetch(Files(missing(plan, sink)))
    plan.check(staging, sink)


def missing(plan: Plan, sink: Recorder) -> list[FileRecord]:
    return [file for file in plan.files if file.number not in sink.numbers]


async def test_kill_9_at_any_moment_costs_next_to_nothing(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/killed/")
    await plan.add("model", 64 * MIB)
    link.rate = 1.5 * MIB
    held = 0
    rng = random.Random(11)
    moments = sorted(rng.uniform(0.2, 3) * MIB for _ in range(3))
    for moment in moments:
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.engines.killed_fetch", "ranged"),
            *(link.endpoint, str(tmp_path), msgspec.json.encode(plan.files).decode()),
        )
        try:
            await eventually(lambda: link.bytes_down > moment)  # noqa: B023
            held += link.bytes_unread  # bytes in socket buffers
        finally:
            daemon.kill()
            await daemon.wait()
    link.rate = None
    sink = Recorder()
    await continued(link, tmp_path, plan, sink)
    assert link.bytes_down <= 1.02 * plan.size + held


async def test_a_loss_of_power_costs_the_last_batch(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/power/")
    await plan.add("model", 72 * MIB)
    await plan.put("config.json", b"{}")
    disk, clock, sink = LosingDisk(), ManualClock(), Recorder()
    engine = by_ranges(link.endpoint, clock, disk=disk)
    link.freeze_after(40 * MIB)
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, Options()), Files(plan.files), sink)
    )
    await eventually(lambda: disk.unsynced > 39 * MIB)
    for _ in range(2):  # one second
        await clock.next_sleep()
        clock.advance(0.5)
    await clock.next_sleep()
    assert disk.unsynced < MIB
    link.thaw()
    link.freeze_after(20 * MIB)
    await eventually(lambda: disk.unsynced > 19 * MIB)
    after = disk.lose_power()
    clock.advance(1)
    with pytest.raises(DownloaderError):
        await fetching
    assert 19 * MIB < disk.lost < 22 * MIB, "what came since the last batch"
    link.thaw()
    await continued(link, tmp_path, plan, sink, after)
    assert link.bytes_down <= plan.size + disk.lost + 10 * MIB


async def test_losses_of_power_at_many_moments_never_leave_damage(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    """The object store has no checksum that would find damage, so completed bytes must be right."""
    plan = Plan(object_server, "ranges/powers/")
    await plan.add("model", 24 * MIB)
    for n in range(12):
        await plan.put(f"{n}", random.Random(n).randbytes(50_000))
    rng = random.Random(3)
    for attempt in range(4):
        staging = tmp_path / str(attempt)
        sink = Recorder()
        disk = LosingDisk()
        for loss in range(3):
            async with Link(object_server.port, rate=60 * MIB) as link:
                engine = by_ranges(link.endpoint, disk=disk)
                sink.total = 0
                of = job(staging, Options(part_size=MIB))
                session = await engine.recover(of, Files(missing(plan, sink)), sink)
                sink.total = 0
                fetching = asyncio.create_task(session.fetch(Files(missing(plan, sink))))
                until = rng.uniform(0, 14 * MIB)
                await eventually(lambda: link.bytes_down > until or fetching.done())  # noqa: B023
                disk = disk.lose_power(rng.choice([0.3, 0.7, 1.0]), seed=loss)
                await asyncio.gather(fetching, return_exceptions=True)
        async with Link(object_server.port) as link:
            await continued(link, staging, plan, sink, disk)


async def test_what_was_paused_is_safe_from_a_loss_of_power(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/paused/")
    await plan.add("model", 12 * MIB)
    link.freeze_after(8 * MIB)
    disk = LosingDisk()
    engine = by_ranges(link.endpoint, SystemClock(), disk=disk)
    sink = Recorder()
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, Options(part_size=MIB)), Files(plan.files), sink)
    )
    await eventually(lambda: link.is_frozen)
    await stop(fetching)
    disk, lost = disk.lose_power(), disk
    assert lost.lost == 0
    link.thaw()
    await continued(link, tmp_path, plan, sink, disk)
    assert link.bytes_down < plan.size + 4 * MIB
