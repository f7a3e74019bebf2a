"""The validator of requests, if an object store has no ETag, or lists another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from s3downloader.core.aio import stop
from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import SourceRef
from s3downloader.core.records import Options
from s3downloader.core.throttle import Throttle
from s3downloader.engines.ranged.range_reader import SourceReader
from s3downloader.engines.ranged.range_request import ResponseHandler
from s3downloader.engines.ranged.server_features import ServerFeatures
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from s3downloader.sources.s3.source import S3Source
from tests.sources.scripted_server import ReceivedRequest, Reply, ScriptedServer
from tests.support import eventually

from .objects import (
    BOTH,
    KIB,
    LARGE,
    MIB,
    PARTS,
    SMALL,
    Served,
    content,
    fetch,
    file_of,
    refused,
    with_headers,
)
from .support import (
    FastClock,
    Files,
    ForgivingRecorder,
    by_ranges,
    client_at,
    fetch_with,
    job,
    names,
)


@BOTH
async def test_an_answer_with_another_etag_is_not_taken(tmp_path: Path, bytes_: bytes) -> None:
    """The object store ignores If-Match."""
    served = Served(bytes_)

    def unconditional(request: ReceivedRequest) -> Reply:
        reply = served(request)
        return reply if request.method == "HEAD" else with_headers(reply, ETag='"another"')

    error = await refused(unconditional, tmp_path, file_of(served))
    assert error.code is ErrorCode.SOURCE_CHANGED
    assert names(tmp_path / "ranged") == []


async def test_of_an_answer_with_another_etag_no_byte_is_taken() -> None:
    """The object store ignores If-Match for a range of a large file."""
    other = Served(LARGE, etag="another")

    def unconditional(request: ReceivedRequest) -> Reply:
        return other(replace(request, headers={**request.headers, "if-match": ""}))

    taken: list[int] = []
    clock = SystemClock()
    async with ScriptedServer(unconditional) as server:
        client = client_at(server.endpoint)
        reader = SourceReader(
            S3Source(ObjectMetadata(client), clock, SourceRef("s3", "models", "")),
            client=client,
            share=Throttle(clock, lambda: 0).open(),
            features=ServerFeatures(clock),
        )
        file = file_of(other, etag="listed")
        with pytest.raises(DownloaderError) as caught:
            await reader.read(
                file, (0, MIB), ResponseHandler(lambda c: taken.append(len(c)), lambda: None)
            )
        assert [request.headers["if-match"] for request in server.requests] == ['"listed"']
    assert caught.value.code is ErrorCode.SOURCE_CHANGED
    assert taken == []


@BOTH
async def test_without_an_etag_the_date_pins_an_object(tmp_path: Path, bytes_: bytes) -> None:
    served = Served(bytes_, etag=None)
    file = file_of(served, etag=served.modified)
    async with ScriptedServer(served) as server:
        await fetch(server.endpoint, tmp_path, file)
        pins = {a.headers["if-unmodified-since"] for a in server.requests if a.method == "GET"}
        assert pins == {served.modified}
    assert content(tmp_path) == bytes_


async def test_without_an_etag_a_replaced_object_is_never_mixed(tmp_path: Path) -> None:
    """Even if the object store ignores If-Unmodified-Since."""
    old = Served(LARGE, etag=None)
    new = Served(bytes(len(LARGE)), etag=None, modified="Wed, 25 Nov 2026 10:00:01 GMT")

    def unconditional(request: ReceivedRequest) -> Reply:
        served = new if request.span and request.span[0] else old
        return served(replace(request, headers={**request.headers, "if-unmodified-since": ""}))

    error = await refused(unconditional, tmp_path, file_of(old, etag=old.modified))
    assert error.code is ErrorCode.SOURCE_CHANGED
    assert names(tmp_path / "ranged") == []


@BOTH
async def test_an_object_without_validator_comes_whole_and_is_compared(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, etag=None, modified=None)
    async with ScriptedServer(served) as server:
        await fetch(server.endpoint, tmp_path, file_of(served), verify=False)
        assert server.request_lines == ["HEAD model", "GET model", "HEAD model"]
        assert not any(request.span for request in server.requests)
    assert content(tmp_path) == bytes_


@BOTH
async def test_without_any_validator_an_object_is_begun_anew_once(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, etag=None, modified=None)

    def breaking(request: ReceivedRequest) -> Reply:
        if request.method == "HEAD":
            return served(request)
        length = str(len(bytes_))
        return Reply(200, {"Content-Length": length}, bytes_[: len(bytes_) // 2], cut=True)

    async with ScriptedServer(breaking) as server:
        with pytest.raises(DownloaderError, match="cannot be continued") as caught:
            await fetch(server.endpoint, tmp_path, file_of(served), verify=False)
        assert server.request_lines == ["HEAD model", "GET model", "GET model"]
    assert caught.value.code is ErrorCode.ENGINE_FAILED
    assert names(tmp_path / "files") == []


async def test_without_any_validator_nothing_is_continued_later(tmp_path: Path) -> None:
    served = Served(LARGE, etag=None, modified=None)
    rest = asyncio.Event()

    def halting(request: ReceivedRequest) -> Reply:
        if request.method == "HEAD" or rest.is_set():
            return served(request)
        return Reply(200, {"Content-Length": str(len(LARGE))}, [bytes(MIB), rest])

    async with ScriptedServer(halting) as server:
        engine, sink = by_ranges(server.endpoint), ForgivingRecorder()
        of = job(tmp_path, Options(verify=False))
        fetching = asyncio.create_task(fetch_with(engine, of, Files([file_of(served)]), sink))
        await eventually(lambda: sink.total > MIB // 2)
        await stop(fetching)
        rest.set()
        again = ForgivingRecorder()
        await fetch_with(engine, of, Files([file_of(served)]), again)
    assert content(tmp_path) == LARGE


@BOTH
async def test_an_object_is_pinned_to_a_validator_its_listing_lacks(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_)
    async with ScriptedServer(served) as server:
        await fetch(server.endpoint, tmp_path, file_of(served, etag=""))
        pins = {a.headers.get("if-match") for a in server.requests if a.method == "GET"}
        assert pins == {f'"{served.etag}"'}
    assert content(tmp_path) == bytes_


@BOTH
@pytest.mark.parametrize(("at_last", "is_same"), [("W/tag", True), ("other", False), (None, False)])
async def test_an_object_listed_without_a_validator_is_compared_later(
    tmp_path: Path, bytes_: bytes, at_last: str | None, is_same: bool
) -> None:
    served = Served(bytes_, etag="tag", modified=None)
    heads = 0

    def restless(request: ReceivedRequest) -> Reply:
        nonlocal heads
        heads += request.method == "HEAD"
        is_again = request.method == "HEAD" and heads > 1
        return replace(served, etag=at_last)(request) if is_again else served(request)

    async with ScriptedServer(restless) as server:
        fetching = fetch(server.endpoint, tmp_path, file_of(served, etag=""), verify=False)
        if is_same:
            await fetching
            assert content(tmp_path) == bytes_
            return
        with pytest.raises(DownloaderError) as caught:
            await fetching
        assert caught.value.code is ErrorCode.SOURCE_CHANGED


@BOTH
@pytest.mark.parametrize("own", ["own", "W/own"])
async def test_an_object_listed_with_another_etag_comes_once_relisted(
    tmp_path: Path, bytes_: bytes, own: str
) -> None:
    served = Served(bytes_, etag=own)
    file = file_of(served, etag="listed")
    async with ScriptedServer(served) as server:
        with pytest.raises(DownloaderError) as caught:
            await fetch(server.endpoint, tmp_path, file)
        assert caught.value.code is ErrorCode.SOURCE_CHANGED
        sink = await fetch(server.endpoint, tmp_path, file, relisted=True)
    assert content(tmp_path) == bytes_
    assert sink.files[0].validator == "listed", "what a listing tells is compared with a listing"


@BOTH
async def test_a_weak_etag_is_the_same_as_the_strong_one(tmp_path: Path, bytes_: bytes) -> None:
    served = Served(bytes_, etag="W/tag")
    listed = file_of(served, etag="tag")

    def unconditional(request: ReceivedRequest) -> Reply:
        return served(replace(request, headers={**request.headers, "if-match": ""}))

    async with ScriptedServer(unconditional) as server:
        await fetch(server.endpoint, tmp_path, listed)
        await fetch(server.endpoint, tmp_path / "2", file_of(served))
    assert content(tmp_path) == content(tmp_path / "2") == bytes_


@BOTH
async def test_a_weak_etag_listed_as_strong_under_strong_comparison(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, etag="W/tag")
    listed = file_of(served, etag="tag")

    def strict(request: ReceivedRequest) -> Reply:
        return Reply(412) if request.headers.get("if-match") else served(request)

    async with ScriptedServer(strict) as server:
        with pytest.raises(DownloaderError) as caught:
            await fetch(server.endpoint, tmp_path, listed)
        assert caught.value.code is ErrorCode.SOURCE_CHANGED
        sink = await fetch(server.endpoint, tmp_path, listed, relisted=True)
    assert content(tmp_path) == bytes_
    assert sink.files[0].validator == "tag"


async def test_what_is_not_as_listed_is_continued_after_a_pause(tmp_path: Path) -> None:
    served = Served(LARGE, etag="own")
    file = file_of(served, etag="listed")
    rest = asyncio.Event()

    def halting(request: ReceivedRequest) -> Reply:
        reply = served(request)
        if request.method == "HEAD" or reply.status != 206 or rest.is_set():
            return reply
        assert isinstance(reply.body, bytes)
        return Reply(
            206,
            {**reply.headers, "Content-Length": str(len(reply.body))},
            [reply.body[: 128 * KIB], rest],
        )

    async with ScriptedServer(halting) as server:
        engine, sink = by_ranges(server.endpoint), ForgivingRecorder()
        session = await engine.recover(job(tmp_path, PARTS), Files([file]), sink)
        fetching = asyncio.create_task(session.fetch(Files([file]), relisted=True))
        await eventually(lambda: sink.total >= 3 * 96 * KIB)
        await stop(fetching)
        rest.set()
        before = len(server.requests)
        await fetch(server.endpoint, tmp_path, file)
        spans = [a.span for a in server.requests[before:] if a.span]
        assert sum(end - start for start, end in spans) == len(LARGE) - sink.total
    assert content(tmp_path) == LARGE


async def test_a_listing_is_believed_again_once_an_object_is_as_listed(tmp_path: Path) -> None:
    """Until the next listing, a replaced object looks like one whose listing is wrong."""
    odd, plain = Served(SMALL, etag="own"), Served(SMALL)
    async with ScriptedServer(odd) as server:
        engine = by_ranges(server.endpoint, FastClock())
        listed = file_of(odd, etag="listed")

        async def fetch_listed(relisted: bool) -> None:
            sink = ForgivingRecorder()
            await fetch_with(engine, job(tmp_path, PARTS), Files([listed]), sink, relisted=relisted)

        await fetch_listed(relisted=True)
        await fetch_listed(relisted=False)  # as it is now known about the bucket
        server.answer = plain
        await fetch_with(engine, job(tmp_path, PARTS), Files([file_of(plain)]), ForgivingRecorder())
        server.answer = odd
        with pytest.raises(DownloaderError) as caught:
            await fetch_listed(relisted=False)
    assert caught.value.code is ErrorCode.SOURCE_CHANGED
