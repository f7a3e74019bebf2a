"""Chooses the engine of each download: ranged or s5cmd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

from ..core.aio import first_of, stop
from ..core.records import FileRecord
from .base import Engine, FetchJob, FetchSession, Sink, resumes_inside_files

__all__ = ["AutoEngine"]


class AutoEngine:
    """Uses ranged, unless the download asks for s5cmd and no bandwidth limit is in force.

    ranged continues inside a file, and costs less than s5cmd for objects of every size, see
    docs/performance.md: s5cmd sends a HEAD before each object of a list.
    """

    def __init__(self, *, s5cmd: Engine, ranged: Engine) -> None:
        self._s5cmd = s5cmd
        self._ranged = ranged

    async def recover(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink
    ) -> FetchSession:
        """Recover what an earlier fetch of either engine left, see `Engine.recover`."""
        s5cmd = await self._s5cmd.recover(job, files, sink)
        ranged = await self._ranged.recover(job, files, sink)
        return _AutoSession(job, s5cmd, ranged)


class _AutoSession:
    """Chooses the engine at the start of each fetch, by the bandwidth limit then in force."""

    def __init__(self, job: FetchJob, s5cmd: FetchSession, ranged: FetchSession) -> None:
        self._job = job
        self._s5cmd = s5cmd
        self._ranged = ranged

    async def fetch(self, files: AsyncIterable[FileRecord], *, relisted: bool = False) -> None:
        """Fetch and verify every file, see `FetchSession.fetch`.

        If a bandwidth limit is set while s5cmd is running, s5cmd is stopped, and ranged fetches the
        files that are left.
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
