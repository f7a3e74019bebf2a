"""Helpers for tests of engines: engines, jobs, sinks, plans, and a fast clock."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from s3downloader.core.clock import Clock, SystemClock
from s3downloader.core.errors import ErrorCode
from s3downloader.core.objects import SourceRef
from s3downloader.core.records import FileRecord, Options
from s3downloader.core.throttle import Share, Throttle
from s3downloader.engines.base import Engine, FetchJob
from s3downloader.engines.disk import Disk
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.s5cmd.program import S5cmd
from s3downloader.sources.http.transport import Transport
from s3downloader.sources.registry import Sources, sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from sandbox.servers import S3Server

BUCKET = "models"
UNVERIFIED = Options(verify=False)
"""Options for records with made-up ETags."""

to_close = ExitStack()
"""Closes what a test has opened; used by a fixture."""


class Failed(NamedTuple):
    """The arguments of a sink's `failed`."""

    number: int
    code: ErrorCode
    message: str
    next_attempt: float | None


class Recorder:
    """A sink that records files, and checks that progress and finished bytes only grow."""

    def __init__(self) -> None:
        self.files: list[FileRecord] = []
        self.failures: list[Failed] = []
        self.total = 0
        self._in_flight = 0

    @property
    def numbers(self) -> list[int]:
        return sorted(file.number for file in self.files)

    def progress(self, in_flight: int) -> None:
        total = sum(file.size for file in self.files) + in_flight
        assert total >= self.total
        self.total = total
        self._in_flight = in_flight

    async def finished(self, files: list[FileRecord]) -> None:
        assert sum(file.size for file in files) <= self._in_flight
        self.files += files

    def failed(
        self, file: FileRecord, code: ErrorCode, message: str, *, next_attempt: float | None = None
    ) -> None:
        self.failures.append(Failed(file.number, code, message, next_attempt))


class ForgivingRecorder(Recorder):
    """A sink that allows progress to shrink, for fetches that discard bytes."""

    def progress(self, in_flight: int) -> None:
        self.total = 0
        super().progress(in_flight)


class FastClock:
    """A clock that is 100 times as fast: a minute takes 0.6 seconds."""

    _SPEED = 100.0

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() * self._SPEED

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._SPEED)


def client_at(
    endpoint: str, credentials: Credentials | None = None, time_limit: float = 30.0
) -> S3Client:
    """Return a client of S3 for `endpoint`."""
    credentials = credentials or Credentials(os.environ, SystemClock())
    client = S3Client(endpoint, credentials, Transport(time_limit=time_limit))
    to_close.callback(client.transport.close_idle)
    return client


def by_s5cmd(endpoint: str, clock: Clock, binary: Path | None = None) -> S5cmdEngine:
    """Return an s5cmd engine for `endpoint`."""
    sources = sources_over(ObjectMetadata(client_at(endpoint)), clock)
    return S5cmdEngine(S5cmd(endpoint_url=endpoint, binary=binary), clock, sources)


def by_ranges(
    endpoint: str,
    clock: Clock | None = None,
    *,
    credentials: Credentials | None = None,
    sources: Sources | None = None,
    disk: Disk | None = None,
    stall_timeout: float = 30.0,
) -> RangedEngine:
    """Return a ranged engine for `endpoint`."""
    clock = clock or SystemClock()
    credentials = credentials or Credentials(os.environ, clock)
    client = client_at(endpoint, credentials, stall_timeout)
    sources = sources or sources_over(ObjectMetadata(client), clock)
    return RangedEngine(client=client, sources=sources, clock=clock, disk=disk)


def job(staging: Path, options: Options | None = None, share: Share | None = None) -> FetchJob:
    """Return a job; its share of the bandwidth is unlimited unless one is given."""
    return FetchJob(
        download_id="d1",
        source=SourceRef("s3", BUCKET, ""),
        staging=staging,
        options=options or UNVERIFIED,
        share=share or Throttle(SystemClock(), lambda: 0).open(),
    )


async def fetch_with(
    engine: Engine,
    of: FetchJob,
    files: AsyncIterable[FileRecord],
    sink: Recorder,
    *,
    relisted: bool = False,
) -> None:
    """Recover and fetch files; no earlier file is done."""
    session = await engine.recover(of, Files([]), sink)
    await session.fetch(files, relisted=relisted)


def records(sizes: dict[str, int], prefix: str) -> list[FileRecord]:
    """Return records of files, numbered from 1.

    `sizes` has their bytes by path; `prefix` is the prefix of their keys.
    """
    return [
        FileRecord(number, path, prefix + path, size, f"etag of {path}")
        for number, (path, size) in enumerate(sizes.items(), start=1)
    ]


class Files(AsyncIterable[FileRecord]):
    """An async iterable of files that can be iterated several times."""

    def __init__(self, files: Iterable[FileRecord]) -> None:
        self._files = list(files)

    async def __aiter__(self) -> AsyncIterator[FileRecord]:
        for file in self._files:
            yield file


class Plan:
    """Objects on a server, and the records of the files that they become."""

    def __init__(self, server: S3Server, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._digests: dict[int, str] = {}
        self.files: list[FileRecord] = []

    async def add(self, path: str, size: int) -> FileRecord:
        """Write an object of random bytes and plan it; return its record."""
        digest = await self._server.make(self._prefix + path, size)
        return await self.plan(path, digest)

    async def put(self, path: str, data: bytes, **how: Any) -> FileRecord:
        """Write an object with one PutObject and plan it; return its record.

        Its ETag is its MD5. `how` are further arguments of put_object.
        """
        await self._server.put(self._prefix + path, data, **how)
        return await self.plan(path, hashlib.sha256(data).hexdigest())

    async def plan(self, path: str, digest: str) -> FileRecord:
        """Plan an existing object; it replaces an earlier one with the same path."""
        key = self._prefix + path
        head = await asyncio.to_thread(self._server.client().head_object, Bucket=BUCKET, Key=key)
        number = next((f.number for f in self.files if f.path == path), len(self.files) + 1)
        file = FileRecord(number, path, key, head["ContentLength"], head["ETag"].strip('"'))
        self.files = [*(f for f in self.files if f.path != path), file]
        self._digests[number] = digest
        return file

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def check(self, staging: Path, sink: Recorder) -> None:
        """Check that every file has arrived and was reported once, and nothing else is left."""
        assert sink.numbers == sorted(file.number for file in self.files)
        for file in self.files:
            content = (staging / "files" / file.path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == self._digests[file.number]
        assert names(staging / "ranged") == []


async def stream(files: Iterable[FileRecord]) -> AsyncIterator[FileRecord]:
    for file in files:
        yield file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def children(pid: int | None = None) -> set[int]:
    """Return the child processes of the main thread of `pid`, by default of this process."""
    pid = pid or os.getpid()
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
