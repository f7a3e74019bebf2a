"""The files of one download: what the store has of them, and whether they are still there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator

from ..core.aio import batches
from ..core.errors import Vanished
from ..core.records import FileRecord
from ..store import Store
from .active_download import ActiveDownload
from .planning import reuse
from .publishing.publish import not_staged

__all__ = ["StagedFiles"]

log = logging.getLogger(__name__)


class StagedFiles:
    """The planned files of a download, and a look at those that are done.

    A file that is done is whole: it lies in the staging folder, or stands in its place already.
    """

    def __init__(self, active: ActiveDownload, store: Store) -> None:
        self._active = active
        self._store = store

    def done(self) -> AsyncIterable[FileRecord]:
        """Return the files that are done; may be gone through more than once."""
        return _Files(self._store, self._active.download.download_id, True)

    def missing(self) -> AsyncIterable[FileRecord]:
        """Return the files that are not done; may be gone through more than once."""
        return _Files(self._store, self._active.download.download_id, False)

    async def check(self) -> None:
        """Raise Vanished if a file that is done is not whole any more."""
        if broken := await self._broken():
            raise _vanished(broken)

    async def check_and_mark(self) -> None:
        """Raise Vanished as `check` does, and mark those files as missing."""
        if broken := await self._broken():
            await self._store.mark_missing(broken)
            raise _vanished(broken)

    async def mark_broken(self) -> None:
        """Mark files that are done and not whole any more as missing, so that they are fetched."""
        if broken := await self._broken():
            await self._store.mark_missing(broken)
            log.warning(
                "%s: %d files are not whole", self._active.download.download_id, len(broken)
            )

    async def _broken(self) -> list[FileRecord]:
        download = self._active.download
        broken: list[FileRecord] = []
        async for batch in batches(self.done()):
            away = await asyncio.to_thread(not_staged, download, batch)
            broken += await reuse.not_published(download, away, self._store)
        return broken


def _vanished(broken: list[FileRecord]) -> Vanished:
    first, count = broken[0].path, len(broken)
    return Vanished(
        f"{count} files vanished before they were published, {first} among them;"
        " resume to fetch them again"
    )


class _Files(AsyncIterable[FileRecord]):
    def __init__(self, store: Store, download_id: str, done: bool) -> None:
        self._store = store
        self._download_id = download_id
        self._done = done

    def __aiter__(self) -> AsyncIterator[FileRecord]:
        return self._store.files(self._download_id, done=self._done)
