"""The engine ranged: requests ranges of objects, and continues inside files.

Memory does not depend on the size of the objects. It is the number of requests times
(2 x `SMALL_OBJECT_BYTES` + about 0.1 MiB). Each request has a thread, a buffer of up to
`SMALL_OBJECT_BYTES` (256 KiB), and for a small file that arrives in pieces, a body of up to the
same size. There are 16 requests at first, and never more than `REQUESTS` (64). In addition, each
part of a file in transit needs 56 bytes, and each small file that waits for its sync needs a record
of a few hundred bytes.
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
    """Fetches files in ranges. What has arrived is kept after a pause, a kill and a loss of power.

    A request that delivers almost nothing in the time limit of the client's transport is dropped
    and repeated.
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
        """Recover complete files, and keep what can be continued, see `Engine.recover`.

        A file that was complete but not reported yet is also continued from its journal: bytes
        that were not synced before a loss of power are fetched again.
        """
        staging = self._staging(job)
        continued = await asyncio.to_thread(staging.continuable)
        if continued:
            async for file in files:
                if file.number in continued:
                    await asyncio.to_thread(self._reclaim, staging, file)
        verifier = Verifier(job, self._source(job))
        await report_leftovers(staging, files, verifier, sink, excluded=continued)
        return StagingSession(job, sink, self._fetch)

    async def _fetch(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        """Fetch and verify all files, see `FetchSession.fetch`.

        If it is cancelled or raises, files in transit are kept, and the next fetch continues them.
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
        """Open the source of a job. It repeats no requests, because the fetch does that."""
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
    ) -> dict[int, _PartialFile]:
        """Return what is on disk of the files that can be continued, by number.

        Deletes files that are no longer planned.
        """
        partial: dict[int, _PartialFile] = {}
        continued = await asyncio.to_thread(staging.continuable)
        if continued:
            async for file in files:
                if file.number in continued:
                    continued.discard(file.number)
                    partial[file.number] = await asyncio.to_thread(
                        self._read_partial, staging, file
                    )
        await asyncio.to_thread(staging.delete_partial, *continued)
        return partial

    def _read_partial(self, staging: Staging, file: FileRecord) -> _PartialFile:
        path, journal_path = staging.partial(file.number)
        found = Journal.open(journal_path, self._disk)
        if not found:
            return _PartialFile()
        journal, states = found
        journal.close()
        if not journal.head.continues(file.validator) or not path.exists():
            return _PartialFile()
        return _PartialFile(sum(state.done for state in states), journal.head.own)


class _PartialFile(NamedTuple):
    """A file that can be continued: its bytes on disk, and its object's own validator.

    `own` is empty if the listing has the same validator.
    """

    size: int = 0
    own: str = ""
