"""What the engine's tests share: a sink that remembers, and a clock on which minutes fly."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from s3downloader.clock import Clock, SystemClock
from s3downloader.credentials import Credentials
from s3downloader.engines.base import FetchJob
from s3downloader.engines.s5cmd import S5cmdEngine
from s3downloader.heads import ObjectHeads
from s3downloader.records import FileRecord, Options
from s3downloader.s5cmd import S5cmd
from s3downloader.throttle import Share, Throttle

BUCKET = "models"
UNVERIFIED = Options(verify=False)
"""For records with made-up ETags."""


class Recorder:
    """A sink that holds the engine to its promise: progress and finished bytes only grow."""

    def __init__(self) -> None:
        self.files: list[FileRecord] = []
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


class FastClock:
    """A clock on which a minute takes 0.6 seconds."""

    _SPEED = 100.0

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic() * self._SPEED

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._SPEED)


def by_s5cmd(endpoint: str, clock: Clock, binary: Path | None = None) -> S5cmdEngine:
    """Return an engine of s5cmd that reads from `endpoint`."""
    heads = ObjectHeads(endpoint, Credentials(os.environ, clock))
    return S5cmdEngine(S5cmd(endpoint_url=endpoint, binary=binary), clock, heads)


def job(staging: Path, options: Options | None = None, share: Share | None = None) -> FetchJob:
    """A job whose share is unlimited unless one is given."""
    return FetchJob(
        download_id="d1",
        bucket=BUCKET,
        staging=staging,
        options=options or UNVERIFIED,
        share=share or Throttle(SystemClock(), lambda: 0).open(),
    )


def records(sizes: dict[str, int], prefix: str) -> list[FileRecord]:
    """Number the files of `sizes`, which lie under `prefix` in the bucket."""
    return [
        FileRecord(number, path, prefix + path, size, f"etag of {path}")
        for number, (path, size) in enumerate(sizes.items(), start=1)
    ]


async def stream(files: Iterable[FileRecord]) -> AsyncIterator[FileRecord]:
    for file in files:
        yield file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def children(pid: int | None = None) -> set[int]:
    """Return the processes that the main thread of `pid`, by default of this one, has started."""
    pid = pid or os.getpid()
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
