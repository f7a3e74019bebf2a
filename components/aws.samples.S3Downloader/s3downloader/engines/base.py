"""The interface of an engine, which fetches files into the staging folder and reports them."""

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
    "OBJECT_ERRORS",
    "Engine",
    "FetchJob",
    "FetchSession",
    "Sink",
    "StagingSession",
    "resumes_inside_files",
]

OBJECT_ERRORS = frozenset(
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
"""Codes of errors that concern one object only. The other files can still be fetched."""


class FetchJob(msgspec.Struct, frozen=True, kw_only=True):
    """What to fetch, and where to.

    - `staging` is the staging folder. An engine moves a complete file to `staging/files/PATH`. A
      file that is already there may be a hard link to a published one. It must not be written to;
      a new file replaces it by a rename.
    - `share` is the bandwidth of this fetch. An engine that obeys limits takes bytes from it before
      it reads on.
    - `relisted` is set for each fetch, see `FetchSession.fetch`.
    """

    download_id: str
    source: SourceRef
    staging: Path
    options: Options
    share: Share
    relisted: bool = False


def resumes_inside_files(options: Options, share: Share) -> bool:
    """Return whether an interrupted fetch continues inside files. Only ranged does."""
    return options.engine != "s5cmd" or share.limited


class Sink(Protocol):
    """Receives the reports of an engine, in the thread of the event loop."""

    def progress(self, in_flight: int) -> None:
        """Report how many bytes have arrived of files that are not reported as finished yet."""

    async def finished(self, files: list[FileRecord]) -> None:
        """Report that these files are complete and synced in `staging/files`.

        The last `progress` contains their bytes, the next one does not. Each file's `checksum` says
        with what it was compared.
        """

    def failed(
        self, file: FileRecord, code: ErrorCode, message: str, *, next_attempt: float | None = None
    ) -> None:
        """Report that fetching a file, or a request for it, has failed.

        `next_attempt` is the time of the engine's next attempt in seconds since the epoch, None if
        there is none.
        """


class FetchSession(Protocol):
    """Fetches files into a staging folder that has been recovered."""

    async def fetch(self, files: AsyncIterable[FileRecord], *, relisted: bool = False) -> None:
        """Fetch and verify all files.

        `files` must allow more than one iteration. `relisted` says that a request found an object
        changed, but a new listing showed no change. Then the object's own validator is used, even
        if the listing gives another one.

        Raises DownloaderError. After an error of one object (see OBJECT_ERRORS), files that have
        been started are still fetched, and then this error is raised. Any other error ends the
        fetch, and is raised instead. Cancelling stops all requests, and deletes what cannot be
        continued later. After `fetch` has returned or raised, nothing of it is still running.
        """


class Engine(Protocol):
    """A way to fetch objects. Only `recover` gives a session that can fetch."""

    async def recover(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink
    ) -> FetchSession:
        """Recover what an earlier fetch left, and return the session that fetches the other files.

        The earlier fetch was cancelled, failed, or was killed. Complete files are verified and
        reported to `sink`. What can be continued is kept, everything else is deleted. `files` must
        have the validators of the earlier fetch, so list the source again only afterwards. The
        staging folder need not exist.
        """


class StagingSession:
    """The FetchSession of one engine. Calls `fetch` with the arguments that `recover` got."""

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
        """Fetch and verify all files, see `FetchSession.fetch`."""
        job = msgspec.structs.replace(self._job, relisted=relisted)
        await self._fetch(job, files, self._sink)
