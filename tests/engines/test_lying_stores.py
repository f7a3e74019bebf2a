"""Wrong or incomplete responses of an object store never become a file."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import Options
from tests.sources.scripted_server import (
    ReceivedRequest,
    Reply,
    ScriptedServer,
    error_reply,
    login_page,
)

from .objects import (
    BOTH,
    KIB,
    LARGE,
    MIB,
    SMALL,
    Served,
    content,
    fetch,
    file_of,
    refused,
    with_headers,
)
from .support import FastClock, Files, ForgivingRecorder, by_ranges, fetch_with, job, names

# --- Sizes ----------------------------------------------------------------------------------------


async def test_an_empty_file_is_asked_for(tmp_path: Path) -> None:
    empty = Served(b"", etag=hashlib.md5(b"").hexdigest())  # noqa: S324  # as in S3
    async with ScriptedServer(empty) as server:
        sink = await fetch(server.endpoint, tmp_path, file_of(empty))
        assert server.request_lines == ["GET model"]
    assert content(tmp_path) == b""
    assert sink.files[0].checksum.startswith("MD5:")


async def test_an_empty_file_whose_object_has_bytes_is_none(tmp_path: Path) -> None:
    file = msgspec.structs.replace(file_of(Served(SMALL)), size=0)
    assert (await refused(Served(SMALL), tmp_path, file)).code is ErrorCode.SIZE_MISMATCH


async def test_an_empty_file_whose_object_is_another_is_none(tmp_path: Path) -> None:
    file = file_of(Served(b"", etag="listed"))
    error = await refused(Served(b"", etag="another"), tmp_path, file)
    assert error.code is ErrorCode.SOURCE_CHANGED


@BOTH
async def test_a_body_longer_than_the_object_is_not_cut_to_its_size(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_)

    def longer(request: ReceivedRequest) -> Reply:
        reply = served(request)
        if request.method == "HEAD":
            return reply
        assert isinstance(reply.body, bytes)
        return replace(reply, body=[reply.body, b"more"], chunked=True)

    error = await refused(longer, tmp_path, file_of(served), concurrency=1)
    assert error.code is ErrorCode.SIZE_MISMATCH
    assert "more bytes" in error.message


@BOTH
async def test_a_body_that_ends_before_the_object_is_not_continued(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_)

    def shorter(request: ReceivedRequest) -> Reply:
        reply = served(request)
        if request.method == "HEAD" or (request.span and request.span[0] % MIB):
            return reply
        assert isinstance(reply.body, bytes)
        return replace(reply, body=reply.body[: 64 * KIB], chunked=True)

    error = await refused(shorter, tmp_path, file_of(served), concurrency=1)
    assert error.code is ErrorCode.SIZE_MISMATCH
    assert "too few" in error.message


@BOTH
async def test_chunks_that_make_up_the_object_are_taken(tmp_path: Path, bytes_: bytes) -> None:
    served = Served(bytes_)

    def chunked(request: ReceivedRequest) -> Reply:
        reply = served(request)
        assert isinstance(reply.body, bytes)
        half = len(reply.body) // 2
        return replace(reply, body=[reply.body[:half], reply.body[half:]], chunked=True)

    async with ScriptedServer(chunked) as server:
        await fetch(server.endpoint, tmp_path, file_of(served))
    assert content(tmp_path) == bytes_


@BOTH
async def test_bytes_of_a_broken_answer_without_a_length_are_dropped(
    tmp_path: Path, bytes_: bytes
) -> None:
    """Nothing shows which bytes they are, so the file is fetched again from its start."""
    served = Served(bytes_)
    has_broken = False

    def breaking(request: ReceivedRequest) -> Reply:
        nonlocal has_broken
        reply = served(request) if bytes_ is SMALL else served.whole(request)
        if request.method == "HEAD" or request.span or has_broken:
            return reply
        has_broken = True
        wrong = bytes(len(bytes_) // 2)
        return Reply(200, {**served.named, "Content-Length": None}, wrong, cut=True)

    async with ScriptedServer(breaking) as server:
        await fetch(server.endpoint, tmp_path, file_of(served))
        assert has_broken
    assert content(tmp_path) == bytes_


@BOTH
async def test_a_size_that_is_not_the_listed_one_shows_in_the_head(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_)
    file = msgspec.structs.replace(file_of(served), size=len(bytes_) - 1)

    def longer(request: ReceivedRequest) -> Reply:
        reply = served(request)
        return (
            with_headers(reply, Content_Length=str(file.size))
            if request.method == "HEAD"
            else reply
        )

    error = await refused(longer, tmp_path, file)
    assert error.code is ErrorCode.SIZE_MISMATCH


# --- Encodings ------------------------------------------------------------------------------------


@BOTH
async def test_what_is_compressed_on_the_way_is_an_error(tmp_path: Path, bytes_: bytes) -> None:
    """A complete compressed response, followed by plain ranges, once became a file of both."""
    served = Served(bytes_)
    zipped = gzip.compress(bytes(len(bytes_)))

    def compressing(request: ReceivedRequest) -> Reply:
        if request.method == "HEAD":
            return served(request)
        return Reply(
            206 if request.span else 200,
            {**served(request).headers, "Content-Encoding": "gzip"},
            zipped,
            chunked=True,
        )

    error = await refused(compressing, tmp_path, file_of(served))
    assert error.code is ErrorCode.ENCODING_CHANGED
    assert "proxy" in error.message


@BOTH
async def test_what_is_stored_compressed_comes_as_it_is_stored(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, more={"Content-Encoding": "gzip"})
    async with ScriptedServer(served) as server:
        await fetch(server.endpoint, tmp_path, file_of(served))
        assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}
    assert content(tmp_path) == bytes_


# --- Something else than the store ----------------------------------------------------------------


@pytest.mark.parametrize("bytes_", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("status", [200, 302, 511])
async def test_a_page_to_log_in_at_is_no_object(tmp_path: Path, bytes_: bytes, status: int) -> None:
    served = Served(bytes_)

    def portal(request: ReceivedRequest) -> Reply:
        return served(request) if request.method == "HEAD" else login_page(status)

    error = await refused(portal, tmp_path, file_of(served))
    assert error.code is ErrorCode.NETWORK_UNREACHABLE
    assert "something between the device and the object store" in error.message


async def test_a_page_as_long_as_the_object_is_none(tmp_path: Path) -> None:
    page = login_page().body
    assert isinstance(page, bytes)
    served = Served(bytes(len(page)))
    error = await refused(lambda _: login_page(ETag='"any"'), tmp_path, file_of(served))
    assert error.code is ErrorCode.NETWORK_UNREACHABLE


class CutHead(Served):
    """A server whose responses end inside their headers, before the one with the length."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f'HTTP/1.1 200 OK\r\nETag: "{self.etag}"\r\n'.encode())
        writer.close()


@pytest.mark.parametrize("bytes_", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_a_head_that_breaks_off_is_no_head(tmp_path: Path, bytes_: bytes) -> None:
    served = CutHead(bytes_)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(DownloaderError) as caught:
            await fetch(endpoint, tmp_path, file_of(served), verify=False)
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
    assert names(tmp_path / "files") == []


# --- What a store does not know -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "InvalidArgument"), (501, "NotImplemented"), (403, "SignatureDoesNotMatch")],
)
async def test_a_store_that_knows_no_checksums_is_asked_once(
    tmp_path: Path, status: int, code: str
) -> None:
    served = Served(SMALL)

    def plain(request: ReceivedRequest) -> Reply:
        if "x-amz-checksum-mode" in request.headers:
            return error_reply(status, code)
        return served(request)

    files = [file_of(served, str(n), number=n) for n in range(1, 4)]
    async with ScriptedServer(plain) as server:
        sink = await fetch(server.endpoint, tmp_path, *files, numworkers=1)
        assert [a.key for a in server.requests] == ["1", "1", "2", "3"]
    assert sink.numbers == [1, 2, 3]


async def test_a_checksum_refusal_learned_from_head_counts_for_get(
    tmp_path: Path,
) -> None:
    small, large = Served(SMALL), Served(random.Random(3).randbytes(17 * MIB))

    def plain(request: ReceivedRequest) -> Reply:
        if "x-amz-checksum-mode" in request.headers:
            return error_reply(501, "NotImplemented")
        return (small if request.key == "small" else large)(request)

    files = [file_of(large, "large"), file_of(small, "small", number=2)]
    async with ScriptedServer(plain) as server:
        engine, sink = by_ranges(server.endpoint, FastClock()), ForgivingRecorder()
        for file in files:
            await fetch_with(engine, job(tmp_path, Options()), Files([file]), sink)
        assert server.request_lines[:2] == ["HEAD large", "GET large"]
        assert server.request_lines.count("GET small") == 1
    assert sink.numbers == [1, 2]


async def test_a_request_that_is_refused_either_way_teaches_nothing(tmp_path: Path) -> None:
    served = Served(SMALL)

    def choosy(request: ReceivedRequest) -> Reply:
        return error_reply(400, "InvalidArgument") if request.key == "odd" else served(request)

    files = [file_of(served, "odd"), file_of(served, "good", number=2)]
    async with ScriptedServer(choosy) as server:
        with pytest.raises(DownloaderError):
            await fetch(server.endpoint, tmp_path, *files, numworkers=1)
        assert server.request_lines == ["GET odd", "GET odd", "GET good"]
        assert "x-amz-checksum-mode" in server.requests[-1].headers


# --- Checksums ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_", [SMALL, LARGE], ids=["small", "large"])
async def test_a_given_sha256_goes_before_an_etag_that_is_no_md5(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, etag="0" * 32)
    file = file_of(served, sha256=hashlib.sha256(bytes_).hexdigest())
    async with ScriptedServer(served) as server:
        sink = await fetch(server.endpoint, tmp_path, file)
        assert sum(len(a.headers.get("range", "x")) > 1 for a in server.requests) <= 3
    assert sink.files[0].checksum == f"SHA256:{file.sha256}"


async def test_a_sha256_that_was_given_goes_before_a_crc_of_the_store(tmp_path: Path) -> None:
    served = Served(
        LARGE,
        more={"x-amz-checksum-crc32c": "AAAAAA==", "x-amz-checksum-type": "FULL_OBJECT"},
    )
    file = file_of(served, sha256=hashlib.sha256(LARGE).hexdigest())
    async with ScriptedServer(served) as server:
        sink = await fetch(server.endpoint, tmp_path, file)
    assert sink.files[0].checksum == f"SHA256:{file.sha256}"


async def test_an_md5_like_etag_that_mismatches_twice_says_what_helps(
    tmp_path: Path,
) -> None:
    served = Served(SMALL, etag="0" * 32)
    error = await refused(served, tmp_path, file_of(served))
    assert error.code is ErrorCode.CHECKSUM_MISMATCH
    assert "give the sha256" in error.message


# --- Keys -----------------------------------------------------------------------------------------


async def test_credentials_that_stay_expired_are_not_tried_for_ever(tmp_path: Path) -> None:
    served = Served(SMALL)
    expired = error_reply(400, "ExpiredToken", "The provided token has expired.")
    files = [file_of(served, str(n), number=n) for n in range(1, 40)]
    async with ScriptedServer(lambda _: expired) as server:
        with pytest.raises(DownloaderError) as caught:
            await fetch(server.endpoint, tmp_path, *files)
        assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE
        assert len(server.requests) <= 2 * 16, "two tries for each request at once"
