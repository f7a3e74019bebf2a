"""The engine s5cmd fetches from a real server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from s3downloader.core.aio import stop
from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode, Vanished
from s3downloader.core.records import FileRecord, Options
from s3downloader.engines.disk import Disk
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.staging import Staging
from sandbox.link import Link
from sandbox.servers import ApiServer, ObjectServer
from tests.support import ManualClock, eventually, is_running

from .support import (
    BUCKET,
    FastClock,
    Files,
    Recorder,
    by_s5cmd,
    children,
    fetch_with,
    job,
    names,
    records,
    stream,
)

MIB = 1 << 20


async def test_every_file_arrives_whole_in_its_place(
    engine: S5cmdEngine, object_server: ObjectServer, tmp_path: Path
) -> None:
    sizes = {"empty": 0, "config.json": 12, **{f"layers/{n}/w": 70_000 + n for n in range(30)}}
    digests = {path: await object_server.make(f"all/{path}", size) for path, size in sizes.items()}
    files = records(sizes, "all/")
    sink = Recorder()
    await fetch_with(engine, job(tmp_path), stream(files), sink)
    assert sink.numbers == [file.number for file in files]
    assert sink.total == sum(sizes.values())
    for path, digest in digests.items():
        assert hashlib.sha256((tmp_path / "files" / path).read_bytes()).hexdigest() == digest
    assert names(tmp_path / "in-flight") == []


@pytest.mark.parametrize("count", [3, 30])
async def test_a_file_is_synced_before_it_is_reported(
    engine: S5cmdEngine,
    object_server: ObjectServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    synced: set[str] = set()
    sync_all = Disk.sync_all

    def spy(sync: Callable[[int], None], descriptor: int) -> None:
        sync(descriptor)
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def spy_on_all(disk: Disk, descriptor: int) -> None:
        sync_all(disk, descriptor)
        synced.update(map(str, Path(f"/proc/self/fd/{descriptor}").readlink().rglob("*")))

    monkeypatch.setattr(os, "fdatasync", partial(spy, os.fdatasync))
    monkeypatch.setattr(os, "fsync", partial(spy, os.fsync))
    monkeypatch.setattr(Disk, "sync_all", spy_on_all)

    class Suspicious(Recorder):
        async def finished(self, files: list[FileRecord]) -> None:
            places = [tmp_path / "files" / file.path for file in files]
            assert {str(path) for place in places for path in (place, place.parent)} <= synced
            await super().finished(files)

    sizes = {f"{n % 2}/{n}": 1000 for n in range(count)}
    for path, size in sizes.items():
        await object_server.make(f"sync/{path}", size)
    sink = Suspicious()
    await fetch_with(engine, job(tmp_path), stream(records(sizes, "sync/")), sink)
    assert len(sink.files) == count


async def test_a_file_of_several_parts_reports_its_progress(
    linked: S5cmdEngine, link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    size = 52 * MIB  # the parts of s5cmd have 50 MiB
    digest = await object_server.make("big/model", size)
    link.freeze_after(30 * MIB)
    sink = Recorder()
    fetching = asyncio.create_task(
        fetch_with(linked, job(tmp_path), stream(records({"model": size}, "big/")), sink)
    )
    await eventually(lambda: sink.total)
    assert sink.total <= link.bytes_down < size
    link.thaw()
    await fetching
    assert sink.total == size
    assert hashlib.sha256((tmp_path / "files/model").read_bytes()).hexdigest() == digest


async def test_odd_keys_arrive_byte_by_byte(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = [
        *("a b", " lead", "trail ", "it's", 'quo"te', "st*r", "qu?stion", "[br]", "{a,b}", "$HOME"),
        *("`id`", "a;b|c&d", "back\\slash", "tab\there", "#hash", "-dash", "~tilde", "%20", "a+b"),
        *("ünï", "日本語", "a/../b", "a//b", "/root", "..", "x=y"),
    ]
    files = records({str(n): len(f"odd/{key}".encode()) for n, key in enumerate(keys)}, "")
    files = [
        type(file)(file.number, file.path, f"odd/{key}", file.size, "")
        for file, key in zip(files, keys, strict=True)
    ]
    for file in files:
        await api_server.put(file.name, file.name.encode())
    engine = by_s5cmd(api_server.endpoint, SystemClock())
    staging = tmp_path / "a 'staging' folder"
    await fetch_with(engine, job(staging), stream(files), Recorder())
    assert {file.name: (staging / "files" / file.path).read_text() for file in files} == {
        file.name: file.name for file in files
    }


async def test_a_key_with_a_line_break_cannot_smuggle_a_command(
    engine: S5cmdEngine, object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.put("kept", b"precious")
    files = records({f"x\nrm s3://{BUCKET}/kept\n": 1}, "")
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(tmp_path), stream(files), Recorder())
    assert caught.value.code is ErrorCode.UNSAFE_KEY
    assert object_server.client().head_object(Bucket=BUCKET, Key="kept")


@pytest.mark.parametrize(
    ("size", "at_once"),
    [pytest.param(1000, 6, id="small"), pytest.param(120 * MIB, 2, id="of three parts")],
)
async def test_no_more_requests_than_numworkers_are_under_way(
    linked: S5cmdEngine, link: Link, tmp_path: Path, size: int, at_once: int
) -> None:
    drawn = []

    async def files() -> AsyncIterator[FileRecord]:
        for file in records({str(n): size for n in range(20)}, "none/"):
            drawn.append(file.number)
            yield file

    link.freeze()
    fetching = asyncio.create_task(
        fetch_with(
            linked,
            job(tmp_path, Options(numworkers=6, concurrency=5, verify=False)),
            files(),
            Recorder(),
        )
    )
    await eventually(lambda: link.connections and len(drawn) > at_once)
    await stop(fetching)
    assert len(drawn) == at_once + 1  # one file waits for its turn


async def test_a_missing_object_lets_the_others_arrive(
    engine: S5cmdEngine, object_server: ObjectServer, tmp_path: Path
) -> None:
    sizes = {str(n): 50_000 for n in range(20)}
    for path, size in sizes.items():
        await object_server.make(f"gap/{path}", size)
    files = records({"gone": 10, **sizes}, "gap/")
    sink = Recorder()
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(tmp_path), stream(files), sink)
    assert caught.value.code is ErrorCode.OBJECT_NOT_FOUND
    assert f"s3://{BUCKET}/gap/gone" in caught.value.message
    assert sink.numbers == sorted(
        file.number for file in files if (tmp_path / "files" / file.path).exists()
    )


async def test_an_object_of_another_size_is_not_taken(
    engine: S5cmdEngine, object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.put("swapped/model", b"another, longer one")
    await object_server.put("swapped/other", b"same")
    sink = Recorder()
    files = records({"model": 5, "other": 4}, "swapped/")
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(tmp_path), stream(files), sink)
    assert caught.value.code is ErrorCode.SIZE_MISMATCH
    assert sink.numbers == [2]
    assert names(tmp_path / "files") == ["other"]


async def test_cancelling_stops_the_traffic_and_keeps_what_is_whole(
    linked: S5cmdEngine, link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    sizes = {"small": 100_000, "large": 20 * MIB}
    for path, size in sizes.items():
        await object_server.make(f"pause/{path}", size)
    files = records(sizes, "pause/")
    link.freeze_after(5 * MIB)
    before = children()
    sink = Recorder()
    one_by_one = job(tmp_path, Options(numworkers=1))
    fetching = asyncio.create_task(fetch_with(linked, one_by_one, stream(files), sink))
    await eventually(lambda: sink.total > MIB)
    [s5cmd] = children() - before
    await stop(fetching)
    assert not is_running(s5cmd)
    assert all(name.endswith(".object") for name in names(tmp_path / "in-flight"))

    link.thaw()
    again = Recorder()
    missing = Files(file for file in files if file not in sink.files)
    session = await linked.recover(job(tmp_path), missing, again)
    assert sink.numbers + again.numbers == [1]
    assert names(tmp_path / "in-flight") == []
    await session.fetch(Files(files[1:]))
    assert sink.numbers + again.numbers == [1, 2]


async def test_a_file_removed_after_its_arrival_has_vanished(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    """The error is not size_mismatch, because the object is not known to have another size."""
    sizes = {"small": 100_000, "large": 8 * MIB}
    for path, size in sizes.items():
        await object_server.make(f"gone/{path}", size)
    link.freeze_after(4 * MIB)
    engine, sink = by_s5cmd(link.endpoint, ManualClock()), Recorder()  # saves its batch at the end
    one_by_one = job(tmp_path, Options(numworkers=1, verify=False))
    fetching = asyncio.create_task(
        fetch_with(engine, one_by_one, stream(records(sizes, "gone/")), sink)
    )
    arrived = tmp_path / "in-flight" / "1.object"
    await eventually(arrived.exists)
    arrived.unlink()
    link.thaw()
    with pytest.raises(Vanished):
        await fetching
    assert sink.numbers == [2]


async def test_a_cut_link_ends_everything_at_once(
    linked: S5cmdEngine, link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.make("cut/model", 20 * MIB)
    link.freeze_after(5 * MIB)
    sink = Recorder()
    files = records({"model": 20 * MIB}, "cut/")
    fetching = asyncio.create_task(
        fetch_with(linked, job(tmp_path, Options(retry_count=0, verify=False)), stream(files), sink)
    )
    await eventually(lambda: link.is_frozen)
    link.cut()
    with pytest.raises(DownloaderError) as caught:
        await fetching
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
    assert names(tmp_path / "in-flight") == []


async def test_a_frozen_store_is_noticed(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.make("frozen/model", 8 * MIB)
    engine = by_s5cmd(link.endpoint, FastClock())
    before = children()
    link.freeze()
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(
            engine, job(tmp_path), stream(records({"model": 8 * MIB}, "frozen/")), Recorder()
        )
    assert caught.value.code is ErrorCode.STALLED
    assert "60 s" in caught.value.message
    assert children() <= before


async def test_a_slow_store_is_no_stall(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.make("slow/model", MIB)
    clock, sink, staging = ManualClock(), Recorder(), Staging(tmp_path)
    link.freeze_after(100_000)
    fetching = asyncio.create_task(
        fetch_with(
            by_s5cmd(link.endpoint, clock),
            job(tmp_path),
            stream(records({"model": MIB}, "slow/")),
            sink,
        )
    )
    for _ in range(5):
        await clock.next_sleep()
        before = sink.total
        await eventually(lambda: sum(staging.measure().values()) > before)  # noqa: B023
        clock.advance(50)  # of the 60 seconds of its stall timeout
        await eventually(lambda: sink.total > before)  # noqa: B023
        link.thaw()
        link.freeze_after(100_000)
    link.thaw()
    await fetching
    assert sink.numbers == [1]


async def test_a_plan_that_takes_its_time_is_no_stall(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.put("late/1", b"1")
    clock = ManualClock()

    async def late() -> AsyncIterator[FileRecord]:
        await clock.next_sleep()
        clock.advance(90)  # more than the stall timeout
        await clock.next_sleep()
        for file in records({"1": 1}, "late/"):
            yield file

    engine = by_s5cmd(object_server.endpoint, clock)
    sink = Recorder()
    await fetch_with(engine, job(tmp_path), late(), sink)
    assert sink.numbers == [1]


async def test_s5cmd_killed_from_outside_is_told(
    linked: S5cmdEngine, link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    await object_server.make("oom/model", 8 * MIB)
    link.freeze()
    before = children()
    fetching = asyncio.create_task(
        fetch_with(linked, job(tmp_path), stream(records({"model": 8 * MIB}, "oom/")), Recorder())
    )
    await eventually(lambda: link.connections)
    [s5cmd] = children() - before
    os.kill(s5cmd, signal.SIGKILL)
    with pytest.raises(DownloaderError) as caught:
        await fetching
    assert caught.value.code is ErrorCode.ENGINE_FAILED
    assert "SIGKILL" in caught.value.message


async def test_acceleration_is_refused_beside_an_endpoint(
    engine: S5cmdEngine, tmp_path: Path
) -> None:
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(
            engine, job(tmp_path, Options(s3_transfer_acceleration=True)), stream([]), Recorder()
        )
    assert caught.value.code is ErrorCode.INVALID_FIELD


async def test_a_fault_of_the_sink_ends_the_fetch(
    engine: S5cmdEngine, object_server: ObjectServer, tmp_path: Path
) -> None:
    class Broken(Recorder):
        async def finished(self, files: list[FileRecord]) -> None:
            raise OSError("the store is gone")

    await object_server.put("sink/1", b"1")
    with pytest.raises(OSError, match="the store is gone"):
        await fetch_with(engine, job(tmp_path), stream(records({"1": 1}, "sink/")), Broken())
