"""Object stores that send other bytes than the requested range."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from s3downloader.core.aio import stop
from s3downloader.core.errors import DownloaderError, ErrorCode
from tests.sources.scripted_server import ReceivedRequest, Reply, ScriptedServer
from tests.support import eventually

from .objects import (
    BOTH,
    KIB,
    LARGE,
    MIB,
    PARTS,
    Served,
    content,
    fetch,
    file_of,
    with_headers,
)
from .support import Files, ForgivingRecorder, by_ranges, fetch_with, job


class Rangeless:
    """A server that sends complete objects whatever is requested, and counts requests."""

    def __init__(self, served: Served) -> None:
        self.ranges = 0
        self.wholes = 0
        self._served = served

    def __call__(self, request: ReceivedRequest) -> Reply:
        if request.method == "GET":
            self.ranges += bool(request.span)
            self.wholes += not request.span
        return self._served.whole(request)


async def test_a_store_without_ranges_sends_an_object_once(tmp_path: Path) -> None:
    served = Served(LARGE)
    files = [file_of(served, str(n), number=n) for n in range(1, 4)]
    answer = Rangeless(served)
    async with ScriptedServer(answer) as server:
        await fetch(server.endpoint, tmp_path, *files)
        assert (answer.ranges, answer.wholes) == (1, 3), "one request found out, and went alone"
    assert all(content(tmp_path, file.path) == LARGE for file in files)


@pytest.mark.parametrize(
    "content_range",
    [None, "bytes 0-9/3145728", "bytes */3145728", "multipart"],
)
async def test_a_store_that_sends_other_ranges_serves_whole_objects(
    tmp_path: Path, content_range: str | None
) -> None:
    served = Served(LARGE)

    def odd(request: ReceivedRequest) -> Reply:
        reply = served(request)
        if content_range == "multipart":
            return with_headers(
                reply, Content_Range=None, Content_Type="multipart/byteranges; boundary=x"
            )
        return with_headers(reply, Content_Range=content_range) if reply.status == 206 else reply

    async with ScriptedServer(odd) as server:
        await fetch(server.endpoint, tmp_path, file_of(served))
    assert content(tmp_path) == LARGE


async def test_bytes_on_disk_are_passed_over_where_ranges_are_ignored(tmp_path: Path) -> None:
    served = Served(LARGE)
    rest = asyncio.Event()

    def halting(request: ReceivedRequest) -> Reply:
        if request.method == "HEAD" or rest.is_set():
            return served.whole(request)
        reply = served(request)
        assert isinstance(reply.body, bytes)
        headers = {**reply.headers, "Content-Length": str(len(reply.body))}
        return Reply(reply.status, headers, [reply.body[: 128 * KIB], rest])

    async with ScriptedServer(halting) as server:
        engine, sink = by_ranges(server.endpoint), ForgivingRecorder()
        of = job(tmp_path, PARTS)
        fetching = asyncio.create_task(fetch_with(engine, of, Files([file_of(served)]), sink))
        await eventually(lambda: sink.total >= 3 * 96 * KIB)
        await stop(fetching)
        rest.set()
        sink = Growing(sink.total)
        await fetch_with(engine, of, Files([file_of(served)]), sink)
    assert content(tmp_path) == LARGE


class Growing(ForgivingRecorder):
    """A sink that checks that progress never falls below its start."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least

    def progress(self, in_flight: int) -> None:
        super().progress(in_flight)
        assert self.total >= self._least
        self._least = self.total


async def test_a_store_without_ranges_that_breaks_off_is_given_up(
    tmp_path: Path,
) -> None:
    served = Served(LARGE)

    def breaking(request: ReceivedRequest) -> Reply:
        whole = served.whole(request)
        if request.method == "HEAD":
            return whole
        headers = {**whole.headers, "Content-Length": str(len(LARGE))}
        return Reply(200, headers, LARGE[: 2 * MIB], cut=True)

    async with ScriptedServer(breaking) as server:
        with pytest.raises(DownloaderError, match="broke off twice") as caught:
            await fetch(server.endpoint, tmp_path, file_of(served))
        assert caught.value.code is ErrorCode.ENGINE_FAILED
        assert sum(not a.span for a in server.requests if a.method == "GET") == 2


@BOTH
async def test_a_store_that_sends_a_part_instead_of_all_is_given_up(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_)

    def partial(request: ReceivedRequest) -> Reply:
        if request.method == "HEAD":
            return served(request)
        headers = {"Content-Range": f"bytes 0-99/{len(bytes_)}"}
        return Reply(206, {**served.named, **headers}, bytes_[:100])

    async with ScriptedServer(partial) as server:
        with pytest.raises(DownloaderError) as caught:
            await fetch(server.endpoint, tmp_path, file_of(served))
        assert len(server.requests) <= 3
    assert caught.value.code is ErrorCode.ENGINE_FAILED
