"""Each failed attempt at a file is reported to the sink, with its code and the next attempt."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import FileRecord, Options
from s3downloader.engines.auto import AutoEngine
from s3downloader.engines.base import Engine
from sandbox.link import Link
from sandbox.servers import ObjectServer

from .busy_server import BusyServer, refusal
from .support import FastClock, Files, ForgivingRecorder, Plan, by_ranges, by_s5cmd, fetch_with, job

MIB = 1 << 20


def by_auto(endpoint: str) -> Engine:
    clock = SystemClock()
    return AutoEngine(s5cmd=by_s5cmd(endpoint, clock), ranged=by_ranges(endpoint, clock))


ENGINES: dict[str, Callable[[str], Engine]] = {
    "ranged": by_ranges,
    "s5cmd": lambda endpoint: by_s5cmd(endpoint, SystemClock()),
    "auto": by_auto,
}
each_engine = pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)


async def fetch(engine: Engine, staging: Path, files: list[FileRecord]) -> ForgivingRecorder:
    """Fetch `files` as far as possible; return the sink."""
    sink = ForgivingRecorder()
    try:
        await fetch_with(
            engine, job(staging, Options(part_size=MIB, retry_count=2)), Files(files), sink
        )
    except DownloaderError:
        assert sink.failures
    return sink


@each_engine
@pytest.mark.parametrize("size", [10, 2 * MIB])
async def test_an_object_that_is_not_there_is_told_with_its_code(
    object_server: ObjectServer, tmp_path: Path, make: Callable[[str], Engine], size: int
) -> None:
    plan = Plan(object_server, "failed/absent/")
    there = await plan.put("there", bytes(1_000))
    absent = FileRecord(7, "absent", "failed/absent/absent", size, "0" * 32)
    sink = await fetch(make(object_server.endpoint), tmp_path, [absent, there])
    [failure] = sink.failures
    assert (failure.number, failure.code) == (7, ErrorCode.OBJECT_NOT_FOUND)
    assert "s3://models/failed/absent/absent" in failure.message
    assert failure.next_attempt is None
    assert sink.numbers == [there.number]


@each_engine
@pytest.mark.parametrize("size", [100_000, 4 * MIB])
async def test_a_file_that_arrives_damaged_is_told_before_the_next_try(
    link: Link,
    object_server: ObjectServer,
    tmp_path: Path,
    make: Callable[[str], Engine],
    size: int,
) -> None:
    plan = Plan(object_server, "failed/damaged/")
    file = await plan.put(f"{size}", random.Random(1).randbytes(size))
    link.corrupt_after(size // 2)
    began = time.time()
    sink = await fetch(make(link.endpoint), tmp_path, [file])
    [failure] = sink.failures
    assert (failure.number, failure.code) == (file.number, ErrorCode.CHECKSUM_MISMATCH)
    assert failure.next_attempt is not None
    assert failure.next_attempt >= began
    assert sink.numbers == [file.number]


async def test_a_request_that_is_made_again_tells_when(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "failed/busy/")
    file = await plan.put("model", bytes(1_000))
    times = itertools.count()
    busy = refusal(503, "SlowDown")
    began = time.time()
    async with BusyServer(
        object_server.port, lambda _: busy if next(times) < 2 else None
    ) as server:
        sink = await fetch(by_ranges(server.endpoint, FastClock()), tmp_path, [file])
    assert [(f.number, f.code) for f in sink.failures] == [(1, ErrorCode.TIMEOUT)] * 2
    assert all(f.next_attempt is not None and f.next_attempt > began for f in sink.failures)
    assert sink.numbers == [1]


async def test_a_request_that_is_given_up_is_told_without_a_next(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    file = FileRecord(1, "model", "failed/never", 1_000, "0" * 32)
    async with BusyServer(object_server.port, lambda _: refusal(503, "SlowDown")) as server:
        sink = await fetch(by_ranges(server.endpoint, FastClock()), tmp_path, [file])
    assert [f.code for f in sink.failures] == [ErrorCode.TIMEOUT] * 3
    assert [f.next_attempt is None for f in sink.failures] == [False, False, True]
