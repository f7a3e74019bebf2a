"""The engine that goes on inside a file: ranges of objects, pinned, journaled and verified.

Memory, whatever the size of the objects: requests x (2 x `SMALL_OBJECT_BYTES` + about 0.1 MiB).
A request in flight has a thread, a buffer of `SMALL_OBJECT_BYTES` (256 KiB), and for a small file
that comes in pieces its body of at most as much again. There are 16 requests at first and never
more than `REQUESTS` (64). Beside it, 56 bytes for each part of the files that are under way, and a
record of a few hundred bytes for each small file that waits to be synced.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ...core.clock import Clock
from ...core.records import FileRecord
from ...sources.base import Source
from ...sources.registry import Sources
from ...sources.s3.client import S3Client
from ...system.allocator import trim
from ..base import FetchJob, Sink, StagingSession
from ..disk import Disk
from ..recovery import report_leftovers
from ..staging import Staging
from ..verification import Verifier
from .checkpointer import Checkpointer
from .fetch import Fetch
from .journal import Journal
from .range_reader import SourceReader
from .server_features import ServerFeatures

__all__ = ["RangedEngine"]

_THREADS = 2
_NAME = "ranged"


class RangedEngine:
    """Fetches ranges over HTTP. What has arrived is kept through pause, kill and power loss.

    A request that brings no byte for the patience of the client's transport is dropped and made
    again.
    """

    def __init__(
        self,
        *,
        client: S3Client,
        sources: Sources,
        clock: Clock,
        disk: Disk | None = None,
    ) -> None:
        self._client = client
        self._sources = sources
        self._clock = clock
        self._disk = disk or Disk()
        self._features = ServerFeatures(clock)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ranged")

    async def recover(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink
    ) -> StagingSession:
        """Report those of `files` that an earlier fetch left whole; keep what can be continued.

        A file that arrived but was not brought to safety when the power failed is continued from
        what its journal knows.
        """
        staging = self._staging(job)
        continued = await asyncio.to_thread(staging.continued)
        if continued:
            async for file in files:
                if file.number in continued:
                    await asyncio.to_thread(self._reclaim, staging, file)
        verifier = Verifier(job, self._source(job))
        await report_leftovers(staging, files, verifier, sink, excluded=continued)
        return StagingSession(job, sink, self._fetch)

    async def _fetch(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        """Fetch and verify every file, or raise DownloaderError for the first that cannot be had.

        What is on its way when it is cancelled or raises is kept, and continued by the next fetch.
        """
        staging = self._staging(job)
        await asyncio.to_thread(staging.make)
        partial = await self._partial_files(staging, files)
        source = self._source(job)
        reader = SourceReader(
            source,
            client=self._client,
            share=job.share,
            features=self._features,
        )
        verifier = Verifier(job, source)
        fetch = Fetch(
            job,
            staging=staging,
            disk=self._disk,
            reader=reader,
            verifier=verifier,
            checkpointer=Checkpointer(
                staging, sink, self._clock, {number: left.size for number, left in partial.items()}
            ),
            sink=sink,
            clock=self._clock,
            threads=self._threads,
            features=self._features,
            own_validators={number: left.own for number, left in partial.items() if left.own},
        )
        try:
            await fetch.run(files)
        finally:
            self._client.transport.close_idle()
            trim()

    def _source(self, job: FetchJob) -> Source:
        """Open the source of a job, whose requests are repeated by the rules of the fetch."""
        accelerate = job.options.s3_transfer_acceleration
        return self._sources.open(job.source, accelerate=accelerate, retry_count=0)

    def _staging(self, job: FetchJob) -> Staging:
        return Staging(job.staging, _NAME, self._disk)

    def _reclaim(self, staging: Staging, file: FileRecord) -> None:
        found = Journal.open(staging.partial(file.number)[1], self._disk)
        if found:
            staging.reclaim(file, found[0].head.inode)
            found[0].close()

    async def _partial_files(
        self, staging: Staging, files: AsyncIterable[FileRecord]
    ) -> dict[int, _Left]:
        """Return what is here of the files that can be continued, by number.

        Removes what belongs to files that are not planned any more.
        """
        partial: dict[int, _Left] = {}
        continued = await asyncio.to_thread(staging.continued)
        if continued:
            async for file in files:
                if file.number in continued:
                    continued.discard(file.number)
                    partial[file.number] = await asyncio.to_thread(self._left_of, staging, file)
        await asyncio.to_thread(staging.forget, *continued)
        return partial

    def _left_of(self, staging: Staging, file: FileRecord) -> _Left:
        path, journal_path = staging.partial(file.number)
        found = Journal.open(journal_path, self._disk)
        if not found:
            return _Left()
        journal, states = found
        journal.close()
        if not journal.head.continues(file.validator) or not path.exists():
            return _Left()
        return _Left(sum(state.done for state in states), journal.head.own)


class _Left(NamedTuple):
    """How many bytes are here of a file, and the validator of their object if it is not listed."""

    size: int = 0
    own: str = ""
