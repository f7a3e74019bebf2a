"""The files of one download: their records, and checks whether finished files still exist."""

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
    """Lists the planned files of a download, and checks those that are recorded as done.

    A file that is done must be complete in the staging folder, or be published already. Otherwise
    it is incomplete.
    """

    def __init__(self, active: ActiveDownload, store: Store) -> None:
        self._active = active
        self._store = store

    def done(self) -> AsyncIterable[FileRecord]:
        """Return the files that are done. The result may be iterated more than once."""
        return _Files(self._store, self._active.download.download_id, True)

    def missing(self) -> AsyncIterable[FileRecord]:
        """Return the files that are not done. The result may be iterated more than once."""
        return _Files(self._store, self._active.download.download_id, False)

    async def check(self) -> None:
        """Raise Vanished if a file that is done is incomplete."""
        if incomplete := await self._incomplete():
            raise _vanished(incomplete)

    async def check_and_mark(self) -> None:
        """Raise Vanished as `check` does. First record that the incomplete files are not done."""
        if incomplete := await self._incomplete():
            await self._store.mark_missing(incomplete)
            raise _vanished(incomplete)

    async def mark_incomplete(self) -> None:
        """Record that incomplete files are not done, so that they are fetched again."""
        if incomplete := await self._incomplete():
            await self._store.mark_missing(incomplete)
            log.warning(
                "%s: %d files are incomplete, and are fetched again",
                self._active.download.download_id,
                len(incomplete),
            )

    async def _incomplete(self) -> list[FileRecord]:
        download = self._active.download
        incomplete: list[FileRecord] = []
        async for batch in batches(self.done()):
            away = await asyncio.to_thread(not_staged, download, batch)
            incomplete += await reuse.not_published(download, away, self._store)
        return incomplete


def _vanished(incomplete: list[FileRecord]) -> Vanished:
    first, count = incomplete[0].path, len(incomplete)
    return Vanished(
        f"{count} of the files disappeared before they were published, {first} among them;"
        " resume to fetch them again"
    )


class _Files(AsyncIterable[FileRecord]):
    def __init__(self, store: Store, download_id: str, done: bool) -> None:
        self._store = store
        self._download_id = download_id
        self._done = done

    def __aiter__(self) -> AsyncIterator[FileRecord]:
        return self._store.files(self._download_id, done=self._done)
