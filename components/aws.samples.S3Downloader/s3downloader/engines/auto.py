"""The engine that chooses what a download is fetched with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

from ..core.aio import first_of, stop
from ..core.records import FileRecord
from .base import Engine, FetchJob, FetchSession, Sink, resumes_inside_files

__all__ = ["AutoEngine"]


class AutoEngine:
    """Fetches by ranges, unless the download asks for s5cmd and no bandwidth limit is in force.

    Ranges go on inside a file, and cost less than s5cmd at every size (docs/performance.md): fed a
    list, s5cmd asks for the head of each object before its body.
    """

    def __init__(self, *, s5cmd: Engine, ranged: Engine) -> None:
        self._s5cmd = s5cmd
        self._ranged = ranged

    async def recover(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink
    ) -> FetchSession:
        """Report those of `files` that an earlier fetch left whole, whichever engine it was."""
        s5cmd = await self._s5cmd.recover(job, files, sink)
        ranged = await self._ranged.recover(job, files, sink)
        return _AutoSession(job, s5cmd, ranged)


class _AutoSession:
    """Chooses the engine for each fetch, as the limits on the bandwidth are then."""

    def __init__(self, job: FetchJob, s5cmd: FetchSession, ranged: FetchSession) -> None:
        self._job = job
        self._s5cmd = s5cmd
        self._ranged = ranged

    async def fetch(self, files: AsyncIterable[FileRecord], *, relisted: bool = False) -> None:
        """Fetch and verify every file, or raise DownloaderError for the first that cannot be had.

        A limit that is set meanwhile takes the files that s5cmd still has away from it.
        """
        share = self._job.share
        if not resumes_inside_files(self._job.options, share):
            fetching = asyncio.create_task(self._s5cmd.fetch(files, relisted=relisted))
            try:
                await first_of(_end_of(fetching), share.until(limited=True))
            finally:
                await stop(fetching)
            if not fetching.cancelled():
                fetching.result()
                return
        await self._ranged.fetch(files, relisted=relisted)


async def _end_of(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
