"""Connections that deliver almost nothing are dropped, and do not hold up a download."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import FileRecord, Options
from s3downloader.core.request_timeouts import MIN_BYTES
from s3downloader.sources.http.timeouts import Deadline, MinimumRate
from s3downloader.sources.http.transport import Transport
from s3downloader.sources.s3.client import Request, S3Client
from s3downloader.sources.s3.credentials import Credentials

from .dripping_server import DrippingServer
from .support import (
    FastClock,
    Files,
    ForgivingRecorder,
    Recorder,
    by_ranges,
    by_s5cmd,
    fetch_with,
    job,
    names,
)

MIB = 1 << 20
LARGE = random.Random(1).randbytes(3 * MIB)
SMALL = LARGE[: 100 << 10]
TIME_LIMIT = 0.3
IN_THE_HEAD, IN_THE_BODY = 30, 50_000
UNVERIFIED = Options(verify=False, part_size=MIB)


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("place", [IN_THE_HEAD, IN_THE_BODY])
async def test_a_dripping_connection_is_dropped_and_replaced(
    tmp_path: Path, content: bytes, place: int
) -> None:
    file = FileRecord(1, "model", "model", len(content), "etag-2")
    async with DrippingServer(content) as server:
        server.drips = {1: place, 2: place}
        sink = Recorder()  # it fails if bytes that have arrived are given up
        engine = by_ranges(server.endpoint, FastClock(), stall_timeout=TIME_LIMIT)
        await fetch_with(engine, job(tmp_path, UNVERIFIED), Files([file]), sink)
    assert (tmp_path / "files" / "model").read_bytes() == content


@pytest.mark.parametrize("place", [IN_THE_HEAD, 200])
async def test_a_store_that_only_drips_is_told_and_what_came_is_kept(
    tmp_path: Path, place: int
) -> None:
    file = FileRecord(1, "model", "model", len(LARGE), "etag-2")
    async with DrippingServer(LARGE) as server:
        server.always = place
        sink = ForgivingRecorder()
        engine = by_ranges(server.endpoint, FastClock(), stall_timeout=TIME_LIMIT)
        options = Options(verify=False, concurrency=1, retry_count=2)
        with pytest.raises(DownloaderError) as caught:
            await fetch_with(engine, job(tmp_path, options), Files([file]), sink)
        assert caught.value.code is ErrorCode.STALLED
        assert server.connections == 3, "a drip is no progress that begins the tries anew"
    assert names(tmp_path / "ranged") == ["1.journal", "1.part"]
    assert (sink.total > 0) == (place == 200)


async def test_a_dripping_store_holds_s5cmd_no_longer_than_silence(tmp_path: Path) -> None:
    file = FileRecord(1, "model", "model", len(LARGE), "etag-2")
    async with DrippingServer(LARGE) as server:
        server.always = IN_THE_BODY
        engine = by_s5cmd(server.endpoint, FastClock())  # with which it drips for a minute
        with pytest.raises(DownloaderError) as caught:
            await fetch_with(engine, job(tmp_path), Files([file]), Recorder())
    assert caught.value.code is ErrorCode.STALLED


@pytest.mark.parametrize("place", [IN_THE_HEAD, 200])
async def test_an_answer_to_a_small_request_has_its_time_too(place: int) -> None:
    async with DrippingServer(LARGE) as server:
        server.always = place
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
        transport = Transport(time_limit=TIME_LIMIT)
        client = S3Client(server.endpoint, Credentials(keys, SystemClock()), transport)
        with pytest.raises(DownloaderError) as caught:
            await client.send(Request(method="GET", bucket="models", key="model"))
        assert caught.value.code is ErrorCode.TIMEOUT
        transport.close_idle()


def test_a_slow_connection_is_no_drip() -> None:
    rate = MinimumRate(30.0)
    for _ in range(1_000):
        rate.add(MIN_BYTES // 29, 1.0)


def test_a_connection_below_the_least_rate_is_a_drip() -> None:
    rate = MinimumRate(30.0)
    for _ in range(29):
        rate.add(MIN_BYTES // 31, 1.0)
    with pytest.raises(TimeoutError, match="bytes arrived in 30 s"):
        rate.add(MIN_BYTES // 31, 1.0)


def test_what_came_long_ago_does_not_count() -> None:
    rate = MinimumRate(30.0)
    rate.add(1 << 30, 1.0)
    with pytest.raises(TimeoutError):
        rate.add(1, 30.0)


async def test_a_connection_made_after_the_deadline_is_not_waited_for() -> None:
    deadline = Deadline(0.0)
    deadline._end()
    with pytest.raises(TimeoutError):
        deadline.watch(None)
