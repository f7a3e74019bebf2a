"""Deletes old records: of ended downloads, of responses, of published files that are missing."""

from __future__ import annotations

import asyncio
import logging

from ...core.clock import Clock
from ...core.errors import DownloaderError, from_system
from ...core.records import FINISHED, State
from ...store import Change, Store
from ..active_download import ActiveDownload
from ..planning.reuse import delete_missing, published_name
from ..publishing.publish import discard
from ..publishing.versions import Versions

__all__ = ["Pruner"]

log = logging.getLogger(__name__)

_KEPT_SECONDS = 7 * 86_400.0
_KEPT_DOWNLOADS = 1_000
_MOST_RESPONSES = 10_000
_INTERVAL = 3_600.0
_ENDED = FINISHED | {State.FAILED}


class Pruner:
    """Keeps ended downloads and responses for a week, at most 1,000 and 10,000 of them."""

    def __init__(
        self,
        downloads: dict[str, ActiveDownload],
        *,
        store: Store,
        versions: Versions,
        clock: Clock,
    ) -> None:
        """`downloads` are all downloads by id. Deleted ones are removed from it."""
        self._downloads = downloads
        self._store = store
        self._versions = versions
        self._clock = clock
        self._began = (clock.now(), clock.monotonic())

    async def run(self) -> None:
        """Delete old records now and every hour, until cancelled."""
        while True:
            try:
                await self._prune()
            except Exception as error:
                failure = error if isinstance(error, DownloaderError) else from_system(error)
                if failure is None:
                    raise
                log.warning("old records could not be deleted: %s", failure)
            await self._clock.sleep(_INTERVAL)

    async def _prune(self) -> None:
        for active in self._expired():
            async with active.lock:
                if active.download.state in _ENDED:
                    await self._delete(active)
        before = 0.0 if self._clock_jumped() else self._clock.now() - _KEPT_SECONDS
        await self._store.delete_responses(before=before, most=_MOST_RESPONSES)
        await self._versions.tidy()
        records = [active.download for active in self._downloads.values()]
        unfinished = [download for download in records if download.state not in FINISHED]
        exchanged = (published_name(download) for download in unfinished if download.exchange)
        staging = (download.staging for download in unfinished)
        await delete_missing(self._store, (*exchanged, *staging))

    async def _delete(self, active: ActiveDownload) -> None:
        download_id = active.download.download_id
        await asyncio.to_thread(discard, active.download)
        await self._store.record(Change(deleted_downloads=[download_id]))
        del self._downloads[download_id]

    def _expired(self) -> list[ActiveDownload]:
        """Return the downloads that ended over a week ago, and the oldest if there are too many."""
        ended = [each for each in self._downloads.values() if each.download.state in _ENDED]
        ended.sort(key=self._age, reverse=True)
        surplus = len(ended) - _KEPT_DOWNLOADS
        aged = [self._age(active) for active in ended]
        return [a for n, a in enumerate(ended) if n < surplus or aged[n] > _KEPT_SECONDS]

    def _age(self, active: ActiveDownload) -> float:
        """Return the seconds since a download ended.

        If it ended in this process, changes of the wall clock have no effect.
        """
        if active.entered is not None:
            return self._clock.monotonic() - active.entered
        return self._clock.now() - active.download.updated_at

    def _clock_jumped(self) -> bool:
        """Tell whether the wall clock was set since the start, as on a device without a battery."""
        now, monotonic = self._began
        drift = (self._clock.now() - now) - (self._clock.monotonic() - monotonic)
        return abs(drift) > _INTERVAL
