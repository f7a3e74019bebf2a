"""Stores that lie, or leave something out: what they send never becomes a file by mistake."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.aio import stop
from s3downloader.clock import SystemClock
from s3downloader.credentials import Credentials
from s3downloader.engines.disk import Disk
from s3downloader.engines.journal import Journal
from s3downloader.engines.learned import Learned
from s3downloader.engines.reading import Taker
from s3downloader.engines.stores import BucketReader
from s3downloader.errors import DownloaderError, ErrorCode
from s3downloader.records import FileRecord, Options
from s3downloader.s3http import S3Http
from s3downloader.throttle import Throttle
from tests.lying_store import Asked, LyingStore, Reply, error_reply, login_page
from tests.support import eventually

from .objects import Served, file_of
from .support import FastClock, Files, ForgivingRecorder, by_ranges, job, names

KIB = 1 << 10
MIB = 1 << 20
SMALL = random.Random(1).randbytes(100 * KIB)
LARGE = random.Random(2).randbytes(3 * MIB)
PARTS = Options(part_size=MIB)
Answer = Callable[[Asked], Reply]


async def fetch(
    endpoint: str, staging: Path, *files: FileRecord, relisted: bool = False, **options: Any
) -> ForgivingRecorder:
    """Fetch files with an engine of their own."""
    sink = ForgivingRecorder()
    told = msgspec.structs.replace(PARTS, **options)
    of = msgspec.structs.replace(job(staging, told), relisted=relisted)
    await by_ranges(endpoint, FastClock()).fetch(of, Files(files), sink)
    return sink


async def refused(answer: Answer, staging: Path, file: FileRecord, **how: Any) -> DownloaderError:
    """Return why a file is not had from a store that answers so; nothing of it may be there."""
    async with LyingStore(answer) as store:
        with pytest.raises(DownloaderError) as caught:
            await fetch(store.endpoint, staging, file, **how)
    assert names(staging / "files") == []
    assert not (staging / "ranged" / f"{file.number}.object").exists()
    if found := Journal.open(staging / "ranged" / f"{file.number}.journal", Disk()):
        found[0].close()
        assert not any(state.done for state in found[1]), "a later fetch would go on from that"
    return caught.value


def content(staging: Path, path: str = "model") -> bytes:
    return (staging / "files" / path).read_bytes()


def told(reply: Reply, **headers: str | None) -> Reply:
    """Return a reply that tells other headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(reply, headers={**reply.headers, **named})


BOTH = pytest.mark.parametrize("bytes_", [SMALL, LARGE], ids=["small", "large"])


# --- Sizes ----------------------------------------------------------------------------------------


async def test_an_empty_file_is_asked_for(tmp_path: Path) -> None:
    empty = Served(b"", etag=hashlib.md5(b"").hexdigest())  # noqa: S324  # as S3 has it
    async with LyingStore(empty) as store:
        sink = await fetch(store.endpoint, tmp_path, file_of(empty))
        assert store.asked == ["GET model"]
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

    def longer(asked: Asked) -> Reply:
        reply = served(asked)
        if asked.method == "HEAD":
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

    def shorter(asked: Asked) -> Reply:
        reply = served(asked)
        if asked.method == "HEAD" or (asked.span and asked.span[0] % MIB):
            return reply
        assert isinstance(reply.body, bytes)
        return replace(reply, body=reply.body[: 64 * KIB], chunked=True)

    error = await refused(shorter, tmp_path, file_of(served), concurrency=1)
    assert error.code is ErrorCode.SIZE_MISMATCH
    assert "too few" in error.message


@BOTH
async def test_chunks_that_make_up_the_object_are_taken(tmp_path: Path, bytes_: bytes) -> None:
    served = Served(bytes_)

    def chunked(asked: Asked) -> Reply:
        reply = served(asked)
        assert isinstance(reply.body, bytes)
        half = len(reply.body) // 2
        return replace(reply, body=[reply.body[:half], reply.body[half:]], chunked=True)

    async with LyingStore(chunked) as store:
        await fetch(store.endpoint, tmp_path, file_of(served))
    assert content(tmp_path) == bytes_


@BOTH
async def test_what_an_answer_without_a_length_brought_before_it_broke_is_dropped(
    tmp_path: Path, bytes_: bytes
) -> None:
    """It could be of anything: the rest is not put behind it, the file comes once more."""
    served = Served(bytes_)
    has_broken = False

    def breaking(asked: Asked) -> Reply:
        nonlocal has_broken
        reply = served(asked) if bytes_ is SMALL else served.whole(asked)
        if asked.method == "HEAD" or asked.span or has_broken:
            return reply
        has_broken = True
        wrong = bytes(len(bytes_) // 2)
        return Reply(200, {**served.named, "Content-Length": None}, wrong, cut=True)

    async with LyingStore(breaking) as store:
        await fetch(store.endpoint, tmp_path, file_of(served))
        assert has_broken
    assert content(tmp_path) == bytes_


@BOTH
async def test_a_size_that_is_not_the_listed_one_shows_in_the_head(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_)
    file = msgspec.structs.replace(file_of(served), size=len(bytes_) - 1)

    def longer(asked: Asked) -> Reply:
        reply = served(asked)
        return told(reply, Content_Length=str(file.size)) if asked.method == "HEAD" else reply

    error = await refused(longer, tmp_path, file)
    assert error.code is ErrorCode.SIZE_MISMATCH


# --- Encodings ------------------------------------------------------------------------------------


@BOTH
async def test_what_is_compressed_on_the_way_is_an_error(tmp_path: Path, bytes_: bytes) -> None:
    """A whole answer compressed, with plain ranges after it, made a file of both."""
    served = Served(bytes_)
    zipped = gzip.compress(bytes(len(bytes_)))

    def compressing(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return served(asked)
        return Reply(
            206 if asked.span else 200,
            {**served(asked).headers, "Content-Encoding": "gzip"},
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
    async with LyingStore(served) as store:
        await fetch(store.endpoint, tmp_path, file_of(served))
        assert {asked.headers["accept-encoding"] for asked in store.requests} == {"identity"}
    assert content(tmp_path) == bytes_


# --- Validators -----------------------------------------------------------------------------------


@BOTH
async def test_an_answer_with_another_etag_is_not_taken(tmp_path: Path, bytes_: bytes) -> None:
    """Of a store that does not heed If-Match."""
    served = Served(bytes_)

    def heedless(asked: Asked) -> Reply:
        reply = served(asked)
        return reply if asked.method == "HEAD" else told(reply, ETag='"another"')

    error = await refused(heedless, tmp_path, file_of(served))
    assert error.code is ErrorCode.SOURCE_CHANGED
    assert names(tmp_path / "ranged") == []


async def test_of_an_answer_with_another_etag_no_byte_is_taken() -> None:
    """Of a store that does not heed If-Match, for a range of a large file."""
    other = Served(LARGE, etag="another")

    def heedless(asked: Asked) -> Reply:
        return other(replace(asked, headers={**asked.headers, "if-match": ""}))

    taken: list[int] = []
    credentials, clock = Credentials(os.environ, SystemClock()), SystemClock()
    with ThreadPoolExecutor(1) as threads:
        async with LyingStore(heedless) as store:
            reader = BucketReader(
                "models",
                http=S3Http(store.endpoint, credentials),
                credentials=credentials,
                share=Throttle(clock, lambda: 0).open(),
                threads=threads,
                learned=Learned(clock),
                accelerate=False,
            )
            file = file_of(other, etag="listed")
            with pytest.raises(DownloaderError) as caught:
                await reader.read(
                    file, (0, MIB), Taker(lambda c: taken.append(len(c)), lambda: None)
                )
            assert [asked.headers["if-match"] for asked in store.requests] == ['"listed"']
    assert caught.value.code is ErrorCode.SOURCE_CHANGED
    assert taken == []


@BOTH
async def test_without_an_etag_the_date_pins_an_object(tmp_path: Path, bytes_: bytes) -> None:
    served = Served(bytes_, etag=None)
    file = file_of(served, etag=served.modified)
    async with LyingStore(served) as store:
        await fetch(store.endpoint, tmp_path, file)
        pins = {a.headers["if-unmodified-since"] for a in store.requests if a.method == "GET"}
        assert pins == {served.modified}
    assert content(tmp_path) == bytes_


async def test_without_an_etag_a_replaced_object_is_never_mixed(tmp_path: Path) -> None:
    """Also where the store does not heed If-Unmodified-Since."""
    old = Served(LARGE, etag=None)
    new = Served(bytes(len(LARGE)), etag=None, modified="Wed, 25 Nov 2026 10:00:01 GMT")

    def heedless(asked: Asked) -> Reply:
        served = new if asked.span and asked.span[0] else old
        return served(replace(asked, headers={**asked.headers, "if-unmodified-since": ""}))

    error = await refused(heedless, tmp_path, file_of(old, etag=old.modified))
    assert error.code is ErrorCode.SOURCE_CHANGED
    assert names(tmp_path / "ranged") == []


@BOTH
async def test_without_any_validator_an_object_comes_whole_and_is_looked_at_again(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, etag=None, modified=None)
    async with LyingStore(served) as store:
        await fetch(store.endpoint, tmp_path, file_of(served), verify=False)
        assert store.asked == ["HEAD model", "GET model", "HEAD model"]
        assert not any(asked.span for asked in store.requests)
    assert content(tmp_path) == bytes_


@BOTH
async def test_without_any_validator_an_object_is_begun_anew_once(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, etag=None, modified=None)

    def breaking(asked: Asked) -> Reply:
        if asked.method == "HEAD":
            return served(asked)
        length = str(len(bytes_))
        return Reply(200, {"Content-Length": length}, bytes_[: len(bytes_) // 2], cut=True)

    async with LyingStore(breaking) as store:
        with pytest.raises(DownloaderError, match="cannot be continued") as caught:
            await fetch(store.endpoint, tmp_path, file_of(served), verify=False)
        assert store.asked == ["HEAD model", "GET model", "GET model"]
    assert caught.value.code is ErrorCode.ENGINE_FAILED
    assert names(tmp_path / "files") == []


async def test_without_any_validator_nothing_is_continued_later(tmp_path: Path) -> None:
    served = Served(LARGE, etag=None, modified=None)
    rest = asyncio.Event()

    def halting(asked: Asked) -> Reply:
        if asked.method == "HEAD" or rest.is_set():
            return served(asked)
        return Reply(200, {"Content-Length": str(len(LARGE))}, [bytes(MIB), rest])

    async with LyingStore(halting) as store:
        engine, sink = by_ranges(store.endpoint), ForgivingRecorder()
        of = job(tmp_path, Options(verify=False))
        fetching = asyncio.create_task(engine.fetch(of, Files([file_of(served)]), sink))
        await eventually(lambda: sink.total > MIB // 2)
        await stop(fetching)
        rest.set()
        again = ForgivingRecorder()
        await engine.fetch(of, Files([file_of(served)]), again)
    assert content(tmp_path) == LARGE


@BOTH
async def test_an_object_with_a_validator_that_its_listing_lacks_is_pinned_to_it(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_)
    async with LyingStore(served) as store:
        await fetch(store.endpoint, tmp_path, file_of(served, etag=""))
        pins = {a.headers.get("if-match") for a in store.requests if a.method == "GET"}
        assert pins == {f'"{served.etag}"'}
    assert content(tmp_path) == bytes_


@BOTH
@pytest.mark.parametrize("own", ["own", "W/own"])
async def test_what_is_listed_with_another_etag_comes_once_the_source_is_known_to_rest(
    tmp_path: Path, bytes_: bytes, own: str
) -> None:
    served = Served(bytes_, etag=own)
    file = file_of(served, etag="listed")
    async with LyingStore(served) as store:
        with pytest.raises(DownloaderError) as caught:
            await fetch(store.endpoint, tmp_path, file)
        assert caught.value.code is ErrorCode.SOURCE_CHANGED
        sink = await fetch(store.endpoint, tmp_path, file, relisted=True)
    assert content(tmp_path) == bytes_
    assert sink.files[0].etag == "listed", "what a listing tells is compared with a listing"


@BOTH
async def test_a_weak_etag_is_the_same_as_the_strong_one(tmp_path: Path, bytes_: bytes) -> None:
    served = Served(bytes_, etag="W/tag")
    listed = file_of(served, etag="tag")

    def heedless(asked: Asked) -> Reply:
        return served(replace(asked, headers={**asked.headers, "if-match": ""}))

    async with LyingStore(heedless) as store:
        await fetch(store.endpoint, tmp_path, listed)
        await fetch(store.endpoint, tmp_path / "2", file_of(served))
    assert content(tmp_path) == content(tmp_path / "2") == bytes_


async def test_what_is_not_as_listed_is_continued_after_a_pause(tmp_path: Path) -> None:
    served = Served(LARGE, etag="own")
    file = file_of(served, etag="listed")
    rest = asyncio.Event()

    def halting(asked: Asked) -> Reply:
        reply = served(asked)
        if asked.method == "HEAD" or reply.status != 206 or rest.is_set():
            return reply
        assert isinstance(reply.body, bytes)
        return Reply(
            206,
            {**reply.headers, "Content-Length": str(len(reply.body))},
            [reply.body[: 128 * KIB], rest],
        )

    async with LyingStore(halting) as store:
        of = msgspec.structs.replace(job(tmp_path, PARTS), relisted=True)
        engine, sink = by_ranges(store.endpoint), ForgivingRecorder()
        fetching = asyncio.create_task(engine.fetch(of, Files([file]), sink))
        await eventually(lambda: sink.total >= 3 * 96 * KIB)
        await stop(fetching)
        rest.set()
        before = len(store.requests)
        await fetch(store.endpoint, tmp_path, file)
        spans = [a.span for a in store.requests[before:] if a.span]
        assert sum(end - start for start, end in spans) == len(LARGE) - sink.total
    assert content(tmp_path) == LARGE


# --- Something else than the store ----------------------------------------------------------------


@pytest.mark.parametrize("bytes_", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("status", [200, 302, 511])
async def test_a_page_to_log_in_at_is_no_object(tmp_path: Path, bytes_: bytes, status: int) -> None:
    served = Served(bytes_)

    def portal(asked: Asked) -> Reply:
        return served(asked) if asked.method == "HEAD" else login_page(status)

    error = await refused(portal, tmp_path, file_of(served))
    assert error.code is ErrorCode.NETWORK_UNREACHABLE
    assert "something between the device and the store" in error.message


async def test_a_page_as_long_as_the_object_is_none(tmp_path: Path) -> None:
    page = login_page().body
    assert isinstance(page, bytes)
    served = Served(bytes(len(page)))
    error = await refused(lambda _: login_page(ETag='"any"'), tmp_path, file_of(served))
    assert error.code is ErrorCode.NETWORK_UNREACHABLE


class CutHead(Served):
    """One whose answers break off within their heads, before what would tell the size."""

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


@pytest.mark.parametrize(("status", "code"), [(400, "InvalidArgument"), (501, "NotImplemented")])
async def test_a_store_that_knows_no_checksums_is_asked_once(
    tmp_path: Path, status: int, code: str
) -> None:
    served = Served(SMALL)

    def plain(asked: Asked) -> Reply:
        if "x-amz-checksum-mode" in asked.headers:
            return error_reply(status, code)
        return served(asked)

    files = [file_of(served, str(n), number=n) for n in range(1, 4)]
    async with LyingStore(plain) as store:
        sink = await fetch(store.endpoint, tmp_path, *files, numworkers=1)
        assert [a.key for a in store.requests] == ["1", "1", "2", "3"]
    assert sink.numbers == [1, 2, 3]


async def test_a_request_that_is_refused_either_way_teaches_nothing(tmp_path: Path) -> None:
    served = Served(SMALL)

    def choosy(asked: Asked) -> Reply:
        return error_reply(400, "InvalidArgument") if asked.key == "odd" else served(asked)

    files = [file_of(served, "odd"), file_of(served, "good", number=2)]
    async with LyingStore(choosy) as store:
        with pytest.raises(DownloaderError):
            await fetch(store.endpoint, tmp_path, *files, numworkers=1)
        assert store.asked == ["GET odd", "GET odd", "GET good"]
        assert "x-amz-checksum-mode" in store.requests[-1].headers


# --- Ranges ---------------------------------------------------------------------------------------


class Rangeless:
    """A store that sends whole objects whatever it is asked for, and counts."""

    def __init__(self, served: Served) -> None:
        self.ranges = 0
        self.wholes = 0
        self._served = served

    def __call__(self, asked: Asked) -> Reply:
        if asked.method == "GET":
            self.ranges += bool(asked.span)
            self.wholes += not asked.span
        return self._served.whole(asked)


async def test_a_store_without_ranges_sends_an_object_once(tmp_path: Path) -> None:
    served = Served(LARGE)
    files = [file_of(served, str(n), number=n) for n in range(1, 4)]
    answer = Rangeless(served)
    async with LyingStore(answer) as store:
        await fetch(store.endpoint, tmp_path, *files)
        assert (answer.ranges, answer.wholes) == (1, 3), "one request found out, and went alone"
    assert all(content(tmp_path, file.path) == LARGE for file in files)


@pytest.mark.parametrize(
    "content_range",
    [None, "bytes 0-9/3145728", "bytes */3145728", "multipart"],
)
async def test_a_store_that_sends_other_ranges_is_asked_for_whole_objects(
    tmp_path: Path, content_range: str | None
) -> None:
    served = Served(LARGE)

    def odd(asked: Asked) -> Reply:
        reply = served(asked)
        if content_range == "multipart":
            return told(reply, Content_Range=None, Content_Type="multipart/byteranges; boundary=x")
        return told(reply, Content_Range=content_range) if reply.status == 206 else reply

    async with LyingStore(odd) as store:
        await fetch(store.endpoint, tmp_path, file_of(served))
    assert content(tmp_path) == LARGE


async def test_what_is_here_is_passed_over_where_ranges_are_ignored_later(tmp_path: Path) -> None:
    served = Served(LARGE)
    rest = asyncio.Event()

    def halting(asked: Asked) -> Reply:
        if asked.method == "HEAD" or rest.is_set():
            return served.whole(asked)
        reply = served(asked)
        assert isinstance(reply.body, bytes)
        told = {**reply.headers, "Content-Length": str(len(reply.body))}
        return Reply(reply.status, told, [reply.body[: 128 * KIB], rest])

    async with LyingStore(halting) as store:
        engine, sink = by_ranges(store.endpoint), ForgivingRecorder()
        of = job(tmp_path, PARTS)
        fetching = asyncio.create_task(engine.fetch(of, Files([file_of(served)]), sink))
        await eventually(lambda: sink.total >= 3 * 96 * KIB)
        await stop(fetching)
        rest.set()
        sink = Growing(sink.total)
        await engine.fetch(of, Files([file_of(served)]), sink)
    assert content(tmp_path) == LARGE


class Growing(ForgivingRecorder):
    """A sink for which progress never falls below what was there."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least

    def progress(self, in_flight: int) -> None:
        super().progress(in_flight)
        assert self.total >= self._least
        self._least = self.total


async def test_a_store_without_ranges_that_breaks_off_is_not_asked_for_ever(
    tmp_path: Path,
) -> None:
    served = Served(LARGE)

    def breaking(asked: Asked) -> Reply:
        whole = served.whole(asked)
        if asked.method == "HEAD":
            return whole
        told = {**whole.headers, "Content-Length": str(len(LARGE))}
        return Reply(200, told, LARGE[: 2 * MIB], cut=True)

    async with LyingStore(breaking) as store:
        with pytest.raises(DownloaderError, match="broke off twice") as caught:
            await fetch(store.endpoint, tmp_path, file_of(served))
        assert caught.value.code is ErrorCode.ENGINE_FAILED
        assert sum(not a.span for a in store.requests if a.method == "GET") == 2


# --- Checksums ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_", [SMALL, LARGE], ids=["small", "large"])
async def test_a_sha256_that_was_given_goes_before_an_etag_that_is_no_md5(
    tmp_path: Path, bytes_: bytes
) -> None:
    served = Served(bytes_, etag="0" * 32)
    file = file_of(served, sha256=hashlib.sha256(bytes_).hexdigest())
    async with LyingStore(served) as store:
        sink = await fetch(store.endpoint, tmp_path, file)
        assert sum(len(a.headers.get("range", "x")) > 1 for a in store.requests) <= 3
    assert sink.files[0].checksum == f"SHA256:{file.sha256}"


async def test_a_sha256_that_was_given_goes_before_a_crc_of_the_store(tmp_path: Path) -> None:
    served = Served(
        LARGE,
        more={"x-amz-checksum-crc32c": "AAAAAA==", "x-amz-checksum-type": "FULL_OBJECT"},
    )
    file = file_of(served, sha256=hashlib.sha256(LARGE).hexdigest())
    async with LyingStore(served) as store:
        sink = await fetch(store.endpoint, tmp_path, file)
    assert sink.files[0].checksum == f"SHA256:{file.sha256}"


async def test_an_etag_like_an_md5_that_does_not_fit_twice_is_told_with_what_helps(
    tmp_path: Path,
) -> None:
    served = Served(SMALL, etag="0" * 32)
    error = await refused(served, tmp_path, file_of(served))
    assert error.code is ErrorCode.CHECKSUM_MISMATCH
    assert "give the sha256" in error.message


# --- Keys -----------------------------------------------------------------------------------------


async def test_keys_that_have_expired_and_stay_so_are_not_tried_for_ever(tmp_path: Path) -> None:
    served = Served(SMALL)
    expired = error_reply(400, "ExpiredToken", "The provided token has expired.")
    files = [file_of(served, str(n), number=n) for n in range(1, 40)]
    async with LyingStore(lambda _: expired) as store:
        with pytest.raises(DownloaderError) as caught:
            await fetch(store.endpoint, tmp_path, *files)
        assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE
        assert len(store.requests) <= 2 * 16, "two tries for each request at once"
