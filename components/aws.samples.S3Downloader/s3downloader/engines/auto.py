"""The engine that chooses: what each object is fetched with, both kinds side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable

from ..aio import first_of, stop, together
from ..records import FileRecord
from .base import Engine, FetchJob, Sink
from .stores import can_name

__all__ = ["AutoEngine"]

_BY_S5CMD_BELOW = 0
"""Objects smaller than this go to s5cmd by themselves.

None do: fed a list, it asks for the head of each object before its body, and the ranged engine,
which does not, is the faster one at every size (docs/performance.md).
"""


class AutoEngine:
    """Fetches each object with s5cmd or by ranges, as the download's `engine` says.

    Whatever it says, only s5cmd can fetch a key that is no path, such as `a//b`, and only ranges
    heed a limit on the bandwidth.
    """

    def __init__(self, *, s5cmd: Engine, ranged: Engine) -> None:
        self._s5cmd = s5cmd
        self._ranged = ranged

    async def fetch(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        """Fetch and verify every file, or raise DownloaderError for the first that cannot be had.

        A limit that is set meanwhile takes the files that s5cmd still has away from it.
        """
        while not await self._fetch(job, files, sink, limited=job.share.limited):
            pass

    async def _fetch(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink, *, limited: bool
    ) -> bool:
        """Fetch as is right while there is a limit, or none; tell whether that held to the end."""
        both = _Both(sink)
        chosen = _Some(files, lambda file: _is_for_s5cmd(file, job, limited=limited))
        others = _Some(files, lambda file: not _is_for_s5cmd(file, job, limited=limited))
        by_s5cmd, by_ranges = await chosen.any(), await others.any()
        works = []
        if by_s5cmd:
            works.append(self._s5cmd.fetch(job, chosen, both.half()))
        if by_ranges:
            works.append(self._ranged.fetch(job, others, both.half()))
        fetching = asyncio.create_task(together(*works))
        try:
            if by_s5cmd and not limited:
                await first_of(_end_of(fetching), job.share.until(limited=True))
            else:
                await _end_of(fetching)
        finally:
            await stop(fetching)
        if fetching.cancelled():
            return False
        fetching.result()
        return True

    async def recover(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        """Report those of `files` that an earlier fetch left whole, whichever engine it was."""
        both = _Both(sink)
        await self._s5cmd.recover(job, files, both.half())
        await self._ranged.recover(job, files, both.half())


def _is_for_s5cmd(file: FileRecord, job: FetchJob, *, limited: bool) -> bool:
    if not can_name(file.key):
        return True
    if limited or job.options.engine == "ranged":
        return False
    return job.options.engine == "s5cmd" or file.size < _BY_S5CMD_BELOW


async def _end_of(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


class _Some(AsyncIterable[FileRecord]):
    """Those files that are wanted; may be gone through again and again."""

    def __init__(
        self, files: AsyncIterable[FileRecord], wanted: Callable[[FileRecord], bool]
    ) -> None:
        self._files = files
        self._wanted = wanted

    async def __aiter__(self) -> AsyncIterator[FileRecord]:
        async for file in self._files:
            if self._wanted(file):
                yield file

    async def any(self) -> bool:
        """Tell whether there is one."""
        return await anext(aiter(self), None) is not None


class _Both:
    """One sink for two engines: each tells of its own bytes, the sink hears of all."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._halves: list[_Half] = []

    def half(self) -> _Half:
        """Return the sink for one of them."""
        self._halves.append(_Half(self, self._sink))
        return self._halves[-1]

    def report(self) -> None:
        """Tell the sink how much all have under way."""
        self._sink.progress(sum(half.in_flight for half in self._halves))


class _Half:
    def __init__(self, both: _Both, sink: Sink) -> None:
        self._both = both
        self._sink = sink
        self.in_flight = 0

    def progress(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self._both.report()

    async def finished(self, files: list[FileRecord]) -> None:
        self.in_flight = max(0, self.in_flight - sum(file.size for file in files))
        await self._sink.finished(files)
