"""What a download engine is: it moves bytes and reports, and knows nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from ..core.errors import ErrorCode
from ..core.objects import SourceRef
from ..core.records import FileRecord, Options
from ..core.throttle import Share

__all__ = [
    "OF_ONE_OBJECT",
    "Engine",
    "FetchJob",
    "FetchSession",
    "Sink",
    "StagingSession",
    "resumes_inside_files",
]

OF_ONE_OBJECT = frozenset(
    {
        ErrorCode.OBJECT_NOT_FOUND,
        ErrorCode.ACCESS_DENIED,
        ErrorCode.SOURCE_CHANGED,
        ErrorCode.SIZE_MISMATCH,
        ErrorCode.ENCODING_CHANGED,
        ErrorCode.CHECKSUM_MISMATCH,
        ErrorCode.ENGINE_FAILED,
    }
)
"""Faults that leave hope for the other files."""


class FetchJob(msgspec.Struct, frozen=True, kw_only=True):
    """Where to fetch from and to. Finished files go to `staging/"files"/path`, whole and named.

    `relisted` is set for each fetch, see `FetchSession.fetch`.
    `share` is the bandwidth that the fetch may take; an engine that heeds limits asks it first.
    A file that lies there already may share its inode with a published one: it is never written
    into, a new one is renamed over it.
    """

    download_id: str
    source: SourceRef
    staging: Path
    options: Options
    share: Share
    relisted: bool = False


def resumes_inside_files(options: Options, share: Share) -> bool:
    """Whether a fetch that is broken off loses nothing: it is done by ranges, not by s5cmd."""
    return options.engine != "s5cmd" or share.limited


class Sink(Protocol):
    """Takes an engine's reports, on the event loop's thread."""

    def progress(self, in_flight: int) -> None:
        """So many bytes of files that have not been reported as finished are here now."""

    async def finished(self, files: list[FileRecord]) -> None:
        """These files lie whole, synced to disk, under `staging/files`.

        Their bytes were in the last `progress`, and leave it with this. `checksum` of each tells
        by what it was verified.
        """

    def failed(
        self, file: FileRecord, code: ErrorCode, message: str, *, next_attempt: float | None = None
    ) -> None:
        """An attempt at a file failed, or a request for it.

        `next_attempt` is when the engine tries again, in seconds since the epoch, None where it
        does not.
        """


class FetchSession(Protocol):
    """Fetches files into the staging folder that an engine has recovered."""

    async def fetch(self, files: AsyncIterable[FileRecord], *, relisted: bool = False) -> None:
        """Fetch and verify every file, or raise DownloaderError for the first that cannot be had.

        `files` can be gone through more than once. `relisted` says that a request had found an
        object changed, and that the source, listed again, is as it was: then an object's own
        validator counts, where its listing tells another.

        A fault of one object lets the files already under way finish; if another fault ends the
        fetch meanwhile, that is the one that is raised. Cancelling the task stops all traffic and
        removes what is not kept for later; when `fetch` has returned or raised, nothing of it runs
        any more.
        """


class Engine(Protocol):
    """A way to fetch objects. Only `recover` leads to a fetch."""

    async def recover(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink
    ) -> FetchSession:
        """Report those of `files` that an earlier fetch left whole; return what fetches the others.

        That fetch was cancelled, failed, or died with the daemon. `files` must have the validators
        that they had then, so the source is listed again only afterwards. What else is left and
        cannot be continued is removed. A staging folder that does not exist has nothing to recover.
        """


class StagingSession:
    """The FetchSession of one engine: calls `fetch` of the engine with what `recover` was given."""

    def __init__(
        self,
        job: FetchJob,
        sink: Sink,
        fetch: Callable[[FetchJob, AsyncIterable[FileRecord], Sink], Awaitable[None]],
    ) -> None:
        self._job = job
        self._sink = sink
        self._fetch = fetch

    async def fetch(self, files: AsyncIterable[FileRecord], *, relisted: bool = False) -> None:
        """Fetch and verify every file; see FetchSession."""
        job = msgspec.structs.replace(self._job, relisted=relisted)
        await self._fetch(job, files, self._sink)
