"""The ranged engine with object stores that are busy, refuse the keys, or have checksums."""

from __future__ import annotations

import base64
import itertools
import os
import random
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.checksums import CRCS, Expected
from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.core.records import FileRecord, Options
from s3downloader.sources.registry import Sources
from s3downloader.sources.s3.credentials import Credentials, Keys
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from s3downloader.sources.s3.source import S3Source
from sandbox.link import Link
from sandbox.servers import ApiServer, ObjectServer

from .busy_server import BusyServer, refusal
from .support import (
    FastClock,
    Files,
    ForgivingRecorder,
    Plan,
    Recorder,
    by_ranges,
    client_at,
    fetch_with,
    job,
)

MIB = 1 << 20
DATA = random.Random(7).randbytes(200_000)
SMALL_PARTS = Options(part_size=MIB)


@pytest.mark.parametrize(
    "answer", [refusal(503, "SlowDown"), refusal(500, "InternalError")], ids=["503", "500"]
)
async def test_a_store_that_is_too_busy_is_asked_again(
    object_server: ObjectServer, tmp_path: Path, answer: bytes
) -> None:
    plan = Plan(object_server, "stores/busy/")
    await plan.add("model", 8 * MIB)
    for n in range(10):
        await plan.put(str(n), bytes(1_000))
    times = itertools.count()
    async with BusyServer(
        object_server.port, lambda _: answer if next(times) % 3 else None
    ) as server:
        sink = Recorder()
        engine = by_ranges(server.endpoint, FastClock())
        await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    assert server.refused > 20


class NotingClock(FastClock):
    """A fast clock that records the lengths of sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)


async def test_a_store_that_asks_for_time_gets_it(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "stores/later/")
    await plan.put("model", DATA)
    later = refusal(503, "SlowDown").replace(b"\r\n", b"\r\nRetry-After: 17\r\n", 1)
    times = itertools.count()
    clock = NotingClock()
    async with BusyServer(object_server.port, lambda _: None if next(times) else later) as server:
        sink = Recorder()
        await fetch_with(by_ranges(server.endpoint, clock), job(tmp_path), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    assert 17.0 in clock.slept


async def test_a_store_that_stays_too_busy_is_told(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    file = FileRecord(1, "model", "stores/never", 1_000, "0" * 32)
    async with BusyServer(object_server.port, lambda _: refusal(503, "SlowDown")) as server:
        with pytest.raises(DownloaderError) as caught:
            await fetch_with(
                by_ranges(server.endpoint, FastClock()),
                job(tmp_path, Options(retry_count=3)),
                Files([file]),
                Recorder(),
            )
    assert caught.value.code is ErrorCode.TIMEOUT
    assert server.requests == 4


async def test_a_store_that_sends_nothing_is_not_asked_for_ever(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    nothing = (
        b'HTTP/1.1 200 OK\r\nETag: "etag"\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n'
    )
    file = FileRecord(1, "model", "stores/nothing", 1_000, "etag")
    async with BusyServer(object_server.port, lambda _: nothing) as server:
        with pytest.raises(DownloaderError) as caught:
            await fetch_with(
                by_ranges(server.endpoint, FastClock()),
                job(tmp_path, Options(verify=False, retry_count=3)),
                Files([file]),
                Recorder(),
            )
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
    assert server.requests == 4


class TokenExchange(Credentials):
    """The device's token exchange service, whose keys the test lets expire."""

    def __init__(self) -> None:
        super().__init__(os.environ, SystemClock())
        self.issued = 0
        self.fault: DownloaderError | None = None

    async def _request_keys(self) -> Keys:
        self.issued += 1
        if self.fault:
            raise self.fault
        return Keys(
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            expires_at=datetime(2099, 1, 1, tzinfo=timezone.utc),
        )


async def test_keys_that_expire_are_renewed_once_and_cost_nothing(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "stores/expired/")
    await plan.add("model", 12 * MIB)
    times = itertools.count()
    expired = False

    def refuse(head: str) -> bytes | None:
        nonlocal expired
        expired = expired or next(times) >= 6
        return refusal(400, "ExpiredToken") if expired and exchange.issued == 1 else None

    exchange = TokenExchange()
    async with BusyServer(object_server.port, refuse) as server:
        sink = Recorder()
        engine = by_ranges(server.endpoint, FastClock(), credentials=exchange)
        await fetch_with(engine, job(tmp_path, SMALL_PARTS), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    assert server.refused
    assert exchange.issued == 2
    assert server.requests - server.refused <= 13, "a part was asked for again"


async def test_keys_that_cannot_be_had_are_told(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    exchange = TokenExchange()
    exchange.fault = DownloaderError(
        ErrorCode.CREDENTIALS_UNAVAILABLE, "the token exchange service does not answer; so it is"
    )
    file = FileRecord(1, "model", "stores/keyless", 1_000, "0" * 32)
    engine = by_ranges(object_server.endpoint, FastClock(), credentials=exchange)
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(tmp_path, Options()), Files([file]), Recorder())
    assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE


CHECKSUMS: list[tuple[dict[str, Any], str]] = [
    ({"ChecksumAlgorithm": "CRC64NVME"}, "CRC64NVME:"),
    ({"ChecksumAlgorithm": "SHA256"}, "SHA256:"),
    ({"ServerSideEncryption": "aws:kms", "ChecksumAlgorithm": "CRC32C"}, "CRC32C:"),
    ({"ServerSideEncryption": "aws:kms"}, ""),
    ({}, "MD5:"),
]


@pytest.mark.parametrize(("how", "checksum"), CHECKSUMS)
async def test_what_a_small_file_is_compared_with_comes_with_it(
    api_server: ApiServer, tmp_path: Path, how: dict[str, Any], checksum: str
) -> None:
    plan = Plan(api_server, "stores/told/")
    await plan.put("small", DATA, **how)
    async with BusyServer(api_server.port, lambda _: None) as server:
        sink = Recorder()
        await fetch_with(
            by_ranges(server.endpoint), job(tmp_path, Options()), Files(plan.files), sink
        )
        assert server.requests == 1
    plan.check(tmp_path, sink)
    assert sink.files[0].checksum.partition(":")[:2] == checksum.partition(":")[:2]


async def test_a_small_file_that_fails_its_checksum_is_fetched_again(
    link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    plan = Plan(object_server, "stores/flipped/")
    await plan.put("small", DATA, ChecksumAlgorithm="CRC64NVME")
    link.corrupt_after(len(DATA) // 2)
    sink = ForgivingRecorder()
    await fetch_with(by_ranges(link.endpoint), job(tmp_path, Options()), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    assert sink.files[0].checksum.startswith("CRC64NVME:")
    assert 2 * len(DATA) < link.bytes_down < 2 * len(DATA) + 10_000, "twice, and no more"


BLOCK = 3 * MIB


def expected_from_aws(content: bytes, algorithm: str, *, with_parts: bool) -> Expected:
    """Return the checksums that AWS has for an object uploaded in parts.

    No server of the sandbox has them.
    """
    crc = CRCS[algorithm]
    if not with_parts:
        return Expected(algorithm=algorithm, value=crc.text(crc.extend(0, content)))
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    sums = [crc.extend(0, block).to_bytes(crc.size, "big") for block in blocks]
    whole = crc.text(crc.extend(0, b"".join(sums)))
    return Expected(
        algorithm=algorithm,
        value=f"{whole}-{len(blocks)}",
        composite=True,
        part_sizes=tuple(map(len, blocks)),
        parts=tuple(base64.b64encode(each).decode() for each in sums),
    )


class Knowing(S3Source):
    """A source that knows the checksums of all objects."""

    def __init__(self, expected: Expected, *what: Any, **how: Any) -> None:
        super().__init__(*what, **how)
        self._expected = expected

    async def checksum(self, wanted: ObjectRef) -> Expected:
        return self._expected


@pytest.mark.parametrize(
    ("algorithm", "with_parts", "part_size", "again"),
    [
        ("CRC32C", True, 2 * MIB, BLOCK),
        ("CRC32C", True, 8 * MIB, BLOCK),
        ("CRC64NVME", False, 2 * MIB, 17 * MIB),
    ],
)
async def test_only_the_damaged_parts_of_an_object_are_fetched_again(
    link: Link,
    object_server: ObjectServer,
    tmp_path: Path,
    algorithm: str,
    with_parts: bool,
    part_size: int,
    again: int,
) -> None:
    content = random.Random(1).randbytes(17 * MIB)
    plan = Plan(object_server, "stores/")
    await plan.put("told", content)
    expected = expected_from_aws(content, algorithm, with_parts=with_parts)
    metadata, clock = ObjectMetadata(client_at(link.endpoint)), SystemClock()
    sources = Sources({"s3": partial(Knowing, expected, metadata, clock)})
    options = Options(part_size=part_size, concurrency=1)  # one part after the other
    link.corrupt_after(7 * MIB)
    sink = ForgivingRecorder()
    engine = by_ranges(link.endpoint, sources=sources)
    await fetch_with(engine, job(tmp_path, options), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    assert sink.files[0].checksum.startswith(f"{algorithm}:")
    assert 0 <= link.bytes_down - plan.size - again < MIB
