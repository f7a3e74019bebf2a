"""The ranged engine fetches from a real server, over links that fail."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from s3downloader.core.aio import stop
from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import SourceRef
from s3downloader.core.records import FileRecord, Options
from s3downloader.core.throttle import Throttle
from sandbox.link import Link
from sandbox.servers import ApiServer, ObjectServer
from tests.support import eventually

from .support import (
    FastClock,
    Files,
    ForgivingRecorder,
    Plan,
    Recorder,
    by_ranges,
    fetch_with,
    job,
    names,
)

MIB = 1 << 20
VERIFIED = Options()
SMALL_PARTS = Options(part_size=MIB)
SLACK = 4 * MIB  # headers, and bytes in the sockets of closed connections
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


async def refused(
    endpoint: str, staging: Path, files: list[FileRecord], options: Options = VERIFIED
) -> DownloaderError:
    """Return the error with which these files cannot be fetched."""
    engine = by_ranges(endpoint, FastClock())
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(staging, options), Files(files), ForgivingRecorder())
    return caught.value


async def test_every_file_arrives_whole_and_verified_in_its_place(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/all/")
    for n in range(20):
        await plan.put(f"layers/{n}/w", random.Random(n).randbytes(70_000 + n))
    await plan.put("empty", b"")
    await plan.put("in one piece", bytes(3 * MIB))
    await plan.add("in pieces", 20 * MIB)
    sink = Recorder()
    await fetch_with(
        by_ranges(object_server.endpoint), job(tmp_path, SMALL_PARTS), Files(plan.files), sink
    )
    plan.check(tmp_path, sink)
    assert sink.total == plan.size
    unverified = [file.path for file in sink.files if not file.checksum]
    assert unverified == ["in pieces"], "the store has no checksum of it"


async def test_a_pause_costs_what_was_under_way(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/pause/")
    await plan.add("model", 40 * MIB)
    engine = by_ranges(link.endpoint)
    link.rate = 16 * MIB
    sinks = [Recorder() for _ in range(11)]
    for sink in sinks[:-1]:
        before = link.bytes_down
        fetching = asyncio.create_task(
            fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
        )
        await link.carried(before + 2 * MIB)
        await stop(fetching)
        assert sink.files == []
    link.rate = None
    await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sinks[-1])
    plan.check(tmp_path, sinks[-1])
    totals = [sink.total for sink in sinks]
    assert totals == sorted(totals)
    assert link.bytes_down <= plan.size + 10 * 2 * MIB, "what the link was about to deliver"


async def test_a_link_whose_connections_break_costs_what_was_under_way(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/resets/")
    await plan.add("model", 18 * MIB)
    await plan.put("small", bytes(300_000))
    link.rate = 16 * MIB
    link.reset_every(0.3, random.Random(5))
    sink = Recorder()
    await fetch_with(by_ranges(link.endpoint), job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    assert link.bytes_down <= plan.size + SLACK
    assert link.connections_total > 5


async def test_a_store_that_goes_away_and_comes_back_costs_nothing(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/cut/")
    await plan.add("model", 12 * MIB)
    link.freeze_after(9 * MIB)
    sink = Recorder()
    engine = by_ranges(link.endpoint, FastClock())
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    )
    await eventually(lambda: link.is_frozen)
    link.cut()
    with pytest.raises(DownloaderError) as caught:
        await fetching
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
    assert sink.total > 6 * MIB
    link.thaw()
    link.restore()
    again = Recorder()
    await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), again)
    plan.check(tmp_path, again)
    assert link.bytes_down <= plan.size + SLACK


async def test_a_short_cut_is_not_even_told(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/short/")
    await plan.add("model", 8 * MIB)
    link.freeze_after(3 * MIB)
    sink = Recorder()
    fetching = asyncio.create_task(
        fetch_with(by_ranges(link.endpoint), job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    )
    await eventually(lambda: link.is_frozen)
    link.cut()
    link.thaw()
    link.restore()
    await fetching
    plan.check(tmp_path, sink)


async def test_a_frozen_request_is_dropped_and_made_again(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/frozen/")
    await plan.add("model", 8 * MIB)
    engine = by_ranges(link.endpoint, stall_timeout=0.3)
    sink = Recorder()
    link.freeze_after(3 * MIB)
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    )
    await eventually(lambda: link.is_frozen)
    before = link.connections_total
    await eventually(lambda: link.connections_total > before)
    link.thaw()
    await fetching
    plan.check(tmp_path, sink)


async def test_a_store_that_stays_frozen_is_told(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/still/")
    await plan.put("model", bytes(100_000))
    link.freeze()
    engine = by_ranges(link.endpoint, FastClock(), stall_timeout=0.1)
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(tmp_path, VERIFIED), Files(plan.files), Recorder())
    assert caught.value.code is ErrorCode.STALLED
    assert link.connections_total <= 6


async def test_a_link_that_becomes_slow_is_no_stall(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    """Chunks were large while the link was fast; a half-filled chunk must not be lost."""
    plan = Plan(object_server, "ranges/slow/")
    await plan.add("model", 24 * MIB)
    options = Options(part_size=6 * MIB, concurrency=1)
    sink = Recorder()
    engine = by_ranges(link.endpoint, stall_timeout=0.5)
    link.freeze_after(13 * MIB)
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, options), Files(plan.files), sink)
    )
    await eventually(lambda: link.is_frozen)
    link.rate = MIB  # a chunk of 2 MiB would take four times the stall timeout
    link.thaw()
    link.freeze_after(2 * MIB)
    await eventually(lambda: link.is_frozen)
    link.rate = None
    link.thaw()
    await fetching
    plan.check(tmp_path, sink)
    assert link.bytes_down <= plan.size + SLACK


async def test_an_absent_network_is_told_after_a_few_tries(tmp_path: Path, link: Link) -> None:
    link.cut()
    file = FileRecord(1, "model", "model", 20 * MIB, "0" * 32)
    error = await refused(link.endpoint, tmp_path, [file])
    assert error.code is ErrorCode.NETWORK_UNREACHABLE


@pytest.mark.parametrize("size", [1_000, 2 * MIB])
async def test_what_the_store_refuses_is_told(
    object_server: ObjectServer, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(object_server, "ranges/refused timeout/")
    file = await plan.put("NoSuchBucket", bytes(size))
    gone = msgspec.structs.replace(file, name=f"{file.name} SlowDown")
    error = await refused(object_server.endpoint, tmp_path, [gone])
    assert error.code is ErrorCode.OBJECT_NOT_FOUND
    assert f"s3://models/{gone.name}" in error.message

    changed = msgspec.structs.replace(file, validator="0" * 32)
    error = await refused(object_server.endpoint, tmp_path, [changed])
    assert error.code is ErrorCode.SOURCE_CHANGED
    assert names(tmp_path / "ranged") == []

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    error = await refused(object_server.endpoint, tmp_path, [file])
    assert error.code is ErrorCode.ACCESS_DENIED
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    error = await refused(object_server.endpoint, tmp_path, [file])
    assert error.code is ErrorCode.ACCESS_DENIED


async def test_a_missing_bucket_is_told(
    api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CREDENTIALS[:2]:
        monkeypatch.setenv(name, api_server.environment[name])
    file = FileRecord(1, "NoSuchKey", "NoSuchKey", 1_000, "0" * 32)
    elsewhere = msgspec.structs.replace(
        job(tmp_path, VERIFIED), source=SourceRef("s3", "no-such-bucket", "")
    )
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(by_ranges(api_server.endpoint), elsewhere, Files([file]), Recorder())
    assert caught.value.code is ErrorCode.BUCKET_NOT_FOUND


async def test_an_unreachable_network_is_told_whatever_the_key_says(
    link: Link, tmp_path: Path
) -> None:
    link.cut()
    for words in ("AccessDenied", "status code: 503 SlowDown", "ExpiredToken", "NoSuchKey"):
        file = FileRecord(1, "model", f"ranges/{words}/model", 1_000, "0" * 32)
        error = await refused(link.endpoint, tmp_path, [file])
        assert error.code is ErrorCode.NETWORK_UNREACHABLE, words


async def test_a_missing_object_lets_the_others_arrive(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/gap/")
    for n in range(5):
        await plan.put(str(n), bytes(50_000))
    await plan.put("large", bytes(2 * MIB))
    gone = [
        FileRecord(101, "gone/small", "ranges/gap/gone/small", 10, "0" * 32),
        FileRecord(102, "gone/large", "ranges/gap/gone/large", 2 * MIB, "0" * 32),
    ]
    sink = Recorder()
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(
            by_ranges(object_server.endpoint),
            job(tmp_path, SMALL_PARTS),
            Files([*gone, *plan.files]),
            sink,
        )
    assert caught.value.code is ErrorCode.OBJECT_NOT_FOUND
    plan.check(tmp_path, sink)


@pytest.mark.parametrize("size", [8 * MIB, 400_000])
async def test_a_source_that_is_replaced_is_never_mixed(
    link: Link, object_server: ObjectServer, tmp_path: Path, size: int
) -> None:
    plan = Plan(object_server, "ranges/replaced/")
    old = await plan.put("model", random.Random(1).randbytes(size))
    engine = by_ranges(link.endpoint)
    link.freeze_after(size // 3)
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, SMALL_PARTS), Files([old]), ForgivingRecorder())
    )
    await eventually(lambda: link.is_frozen)
    await plan.put("model", random.Random(2).randbytes(size))
    link.cut()
    link.thaw()
    link.restore()
    with pytest.raises(DownloaderError) as caught:
        await fetching
    assert caught.value.code is ErrorCode.SOURCE_CHANGED
    assert names(tmp_path / "ranged") == []
    sink = Recorder()
    await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    plan.check(tmp_path, sink)


async def test_what_arrived_of_a_small_file_in_vain_is_not_counted(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/vain/")
    old = await plan.put("changing", bytes(400_000))
    link.freeze_after(250_000)
    sink = ForgivingRecorder()
    fetching = asyncio.create_task(
        fetch_with(by_ranges(link.endpoint), job(tmp_path, VERIFIED), Files([old]), sink)
    )
    await eventually(lambda: sink.total)
    await object_server.put(old.name, b"another")
    link.cut()
    link.thaw()
    link.restore()
    with pytest.raises(DownloaderError) as caught:
        await fetching
    assert caught.value.code is ErrorCode.SOURCE_CHANGED
    assert sink.total == 0


@pytest.mark.parametrize("size", [100_000, 300_000, 4 * MIB])
async def test_a_flipped_byte_is_caught_by_the_md5(
    link: Link, object_server: ObjectServer, tmp_path: Path, size: int
) -> None:
    plan = Plan(object_server, "ranges/flip/")
    await plan.put(f"{size}", random.Random(1).randbytes(size))
    link.corrupt_after(size // 2)
    sink = ForgivingRecorder()
    await fetch_with(by_ranges(link.endpoint), job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    assert sink.files[0].checksum.startswith("MD5:")
    assert 2 * size < link.bytes_down < 2 * size + SLACK


@pytest.mark.parametrize("size", [300_000, 4 * MIB])
async def test_a_file_that_is_damaged_twice_is_not_kept(
    link: Link, object_server: ObjectServer, tmp_path: Path, size: int
) -> None:
    plan = Plan(object_server, "ranges/twice/")
    await plan.put(f"{size}", random.Random(1).randbytes(size))
    await plan.put("sound", bytes(1_000))
    link.corrupt_after(size // 2)
    link.freeze_after(size)
    sink = ForgivingRecorder()
    fetching = asyncio.create_task(
        fetch_with(
            by_ranges(link.endpoint),
            job(tmp_path, Options(numworkers=1, part_size=MIB)),
            Files(plan.files),
            sink,
        )
    )
    await eventually(lambda: link.is_frozen)
    link.corrupt_after(size // 2)
    link.thaw()
    with pytest.raises(DownloaderError) as caught:
        await fetching
    assert caught.value.code is ErrorCode.CHECKSUM_MISMATCH
    assert names(tmp_path / "ranged") == []
    assert sink.numbers == [2]
    assert names(tmp_path / "files") == ["sound"]


async def test_a_given_sha256_is_heeded_whatever_the_store_says(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/sha/")
    for size in (1_000, 2 * MIB):
        file = await plan.put(str(size), bytes(size))
        wrong = msgspec.structs.replace(file, sha256="0" * 64)
        error = await refused(object_server.endpoint, tmp_path, [wrong], SMALL_PARTS)
        assert error.code is ErrorCode.CHECKSUM_MISMATCH
        assert names(tmp_path / "ranged") == []


@pytest.mark.parametrize(("count", "most"), [(1, 2), (3, 3)])
async def test_no_more_requests_than_allowed_are_under_way(
    link: Link, object_server: ObjectServer, tmp_path: Path, count: int, most: int
) -> None:
    plan, engine = Plan(object_server, "ranges/most/"), by_ranges(link.endpoint)
    await plan.put("before", bytes(3 * MIB))  # shows that the object store supports ranges
    await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), Recorder())
    await eventually(lambda: not link.connections)
    link.freeze()
    files = [
        FileRecord(n, f"{n}", f"ranges/none/{n}", 8 * MIB, "etag") for n in range(2, 2 + count)
    ]
    options = Options(numworkers=3, concurrency=2, part_size=MIB, verify=False)
    fetching = asyncio.create_task(
        fetch_with(engine, job(tmp_path, options), Files(files), Recorder())
    )
    await eventually(lambda: link.connections == most)
    for _ in range(20):
        await asyncio.sleep(0.005)
        assert link.connections == most
    await stop(fetching)


async def test_the_share_of_the_bandwidth_is_respected(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "ranges/share/")
    await plan.add("model", 6 * MIB)
    clock = SystemClock()
    share = Throttle(clock, lambda: 0).open(6 * MIB)
    sink = Recorder()
    began = clock.monotonic()
    await fetch_with(
        by_ranges(link.endpoint), job(tmp_path, SMALL_PARTS, share), Files(plan.files), sink
    )
    assert clock.monotonic() - began >= 0.7, "a second, but for the slack"
    plan.check(tmp_path, sink)


async def test_odd_keys_arrive(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in CREDENTIALS[:2]:
        monkeypatch.setenv(name, api_server.environment[name])
    plan = Plan(api_server, "odd/")
    keys = [
        *("a b", " lead", "trail ", "it's", 'quo"te', "st*r", "qu?stion", "[br]", "{a,b}", "$HOME"),
        *("`id`", "a;b|c&d", "back\\slash", "#hash", "-dash", "~tilde", "%20", "a+b", "100%"),
        *("ünï", "日本語", "x=y", "a:b@c", "<&>", "%2F", "..."),
    ]
    for key in keys:
        await plan.put(key, key.encode())
    sink = Recorder()
    await fetch_with(
        by_ranges(api_server.endpoint), job(tmp_path, VERIFIED), Files(plan.files), sink
    )
    plan.check(tmp_path, sink)
