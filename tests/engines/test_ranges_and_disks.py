"""The ranged engine writes to disks that are full, slow or broken."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from s3downloader.core.aio import stop
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import Options
from s3downloader.engines.disk import Disk
from sandbox.link import Link
from sandbox.servers import ObjectServer
from tests.support import PATIENCE, eventually

from .losing_disk import LosingDisk
from .support import Files, Plan, Recorder, by_ranges, fetch_with, job

MIB = 1 << 20
SMALL_PARTS = Options(part_size=MIB)


class SmallDisk(Disk):
    """A disk with space for `space` more bytes, which cannot reserve space, as with FAT."""

    def __init__(self, space: float) -> None:
        self.space = space

    def allocate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        self.space -= len(data)
        if self.space < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data, offset)


@pytest.mark.parametrize("small", [0, 20])
async def test_a_disk_that_fills_up_keeps_what_arrived(
    link: Link, object_server: ObjectServer, tmp_path: Path, small: int
) -> None:
    plan = Plan(object_server, f"disks/{small}/")
    for n in range(small):
        await plan.put(str(n), bytes(200_000))
    await plan.add("model", 12 * MIB)
    link.rate = 32 * MIB
    disk = SmallDisk(5 * MIB)
    engine = by_ranges(link.endpoint, disk=disk)
    sink = Recorder()
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    assert caught.value.code is ErrorCode.DISK_FULL
    disk.space = float("inf")
    missing = [file for file in plan.files if file.number not in sink.numbers]
    session = await engine.recover(job(tmp_path, SMALL_PARTS), Files(missing), sink)
    missing = [file for file in plan.files if file.number not in sink.numbers]
    sink.total = 0
    await session.fetch(Files(missing))
    plan.check(tmp_path, sink)
    assert link.bytes_down < plan.size + 6 * MIB


class HeldDisk(Disk):
    """A disk whose syncs the test holds."""

    def __init__(self) -> None:
        self.held = Event()
        self.let_go = Event()

    def sync(self, descriptor: int) -> None:
        self.held.set()
        assert self.let_go.wait(PATIENCE)
        super().sync(descriptor)


@pytest.mark.parametrize("saving", [True, False])
async def test_cancelling_twice_on_a_slow_disk_leaves_nothing_running(
    link: Link, object_server: ObjectServer, tmp_path: Path, saving: bool
) -> None:
    plan = Plan(object_server, "disks/slow/")
    await plan.add("model", 8 * MIB)
    link.freeze_after(4 * MIB)
    disk = HeldDisk()
    disk.let_go.set()
    engine = by_ranges(link.endpoint, disk=disk)
    before = asyncio.all_tasks()
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), Recorder())
    )
    await eventually(lambda: link.is_frozen)
    disk.held.clear()
    disk.let_go.clear()
    if saving:
        await eventually(disk.held.is_set)
    fetching.cancel()
    await eventually(disk.held.is_set)
    for _ in range(30):
        fetching.cancel()
        await asyncio.sleep(0.001)
    assert not fetching.done()
    disk.let_go.set()
    await stop(fetching)
    ours = {task for task in asyncio.all_tasks() - before if "Link" not in repr(task.get_coro())}
    assert not ours
    open_ = [each.resolve() for each in Path("/proc/self/fd").iterdir()]
    assert not [path for path in open_ if path.is_relative_to(tmp_path)]


class FailingDisk(Disk):
    fails = False

    def sync(self, descriptor: int) -> None:
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)


async def test_a_disk_that_fails_ends_the_fetch_and_the_next_goes_on(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "disks/failing/")
    await plan.add("model", 12 * MIB)
    link.freeze_after(4 * MIB)
    disk = FailingDisk()
    engine = by_ranges(link.endpoint, disk=disk)
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), Recorder())
    )
    await eventually(lambda: link.is_frozen)
    disk.fails = True
    with pytest.raises(DownloaderError):
        await fetching
    disk.fails = False
    link.thaw()
    sink = Recorder()
    await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    plan.check(tmp_path, sink)


class DroppingDisk(LosingDisk):
    """A disk on which a sync of a file fails once, and the kernel then drops its pages.

    Source: fsync(2).
    """

    def __init__(self, fails: Callable[[], bool]) -> None:
        super().__init__()
        self.failed = False
        self._fails = fails

    def sync(self, descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if self.failed or name.endswith(".journal") or not self._fails():
            super().sync(descriptor)
            return
        self.failed = True
        self.drop(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)


async def test_what_the_sync_of_an_arrived_file_lost_is_fetched_again(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "disks/dropping/")
    await plan.add("model", 12 * MIB)
    disk = DroppingDisk(lambda: link.bytes_down > plan.size)
    engine = by_ranges(link.endpoint, disk=disk)
    sink = Recorder()
    with pytest.raises(DownloaderError):
        await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    assert disk.failed
    session = await engine.recover(job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    assert sink.files == []
    sink.total = 0
    await session.fetch(Files(plan.files))
    plan.check(tmp_path, sink)


async def test_a_folder_that_cannot_be_written_is_told(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "disks/folder/")
    await plan.put("a/b", b"1")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_bytes(b"in the way")
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(
            by_ranges(object_server.endpoint),
            job(tmp_path, SMALL_PARTS),
            Files(plan.files),
            Recorder(),
        )
    assert caught.value.code is ErrorCode.DESTINATION_NOT_WRITABLE


class StuckDisk(Disk):
    """A disk on which a write of no bytes blocks until the test releases it."""

    def __init__(self) -> None:
        self.held = Event()
        self.let_go = Event()

    def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        if not data:
            self.held.set()
            self.let_go.wait(PATIENCE)
        super().write(descriptor, data, offset)


async def test_a_fetch_ends_only_after_its_threads_leave_the_disk(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan, disk = Plan(object_server, "disks/held/"), StuckDisk()
    await plan.put("empty", b"")
    engine = by_ranges(object_server.endpoint, disk=disk)
    fetching = asyncio.create_task(fetch_with(engine, job(tmp_path), Files(plan.files), Recorder()))
    await eventually(disk.held.is_set)
    fetching.cancel()
    done, _ = await asyncio.wait([fetching], timeout=0.3)
    assert not done, "a thread still writes into the staging folder"
    disk.let_go.set()
    await asyncio.wait([fetching], timeout=PATIENCE)
    assert fetching.cancelled()
