"""Plans, fetches and verifies the files of one download, until all are in its staging folder."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..core.errors import DownloaderError, ErrorCode
from ..core.records import Download
from ..engines.base import FetchSession
from ..sources.base import Source
from ..store import Store
from .active_download import ActiveDownload
from .planning import reuse
from .planning.plan import Differences, make_plan
from .progress import ProgressSink
from .staged_files import StagedFiles
from .state_machine import StateMachine

__all__ = ["Stager"]

log = logging.getLogger(__name__)

_ROUNDS = 3
"""How often the files are fetched while the source keeps changing, before the download fails."""

_RESOLVED_BY_THE_NEXT_PLAN = {
    ErrorCode.OBJECT_NOT_FOUND,
    ErrorCode.SIZE_MISMATCH,
    ErrorCode.SOURCE_CHANGED,
}


class Stager:
    """Fetches the files of one download until the staging folder has what the source has.

    It needs a FetchSession, so the engine has recovered earlier work already. This must come
    first: a new plan changes the validators by which the engine recognizes unfinished files.
    """

    def __init__(
        self,
        session: FetchSession,
        active: ActiveDownload,
        *,
        store: Store,
        files: StagedFiles,
        sink: ProgressSink,
        source: Source,
        state_machine: StateMachine,
        check_space: Callable[[ActiveDownload], None],
        on_fault: Callable[[Download, DownloaderError], None],
    ) -> None:
        self._session = session
        self._active = active
        self._store = store
        self._files = files
        self._sink = sink
        self._source = source
        self._state_machine = state_machine
        self._check_space = check_space
        self._on_fault = on_fault
        self._relisted = False

    async def run(self) -> None:
        """Return when every file is complete in the staging folder. Raises the error that stops it.

        After each fetch the source is listed again. Files that have changed there are fetched
        again. If an object is not as listed, although the listing has not changed, it is fetched
        once more, with `relisted`.
        """
        await self._plan()
        async for taken in reuse.stage_unchanged(self._active.download, self._store, self._source):
            await self._sink.finished(taken)
        self._active.meter.restart(self._active.meter.bytes_on_disk, keep_peak=True)
        for _ in range(_ROUNDS):
            self._check_space(self._active)
            await self._state_machine.begin_fetch(self._active)
            fault = await self._fetch()
            await self._state_machine.begin_verification(self._active)
            await self._files.check_and_mark()
            differences = await self._plan()
            if self._active.download.files_done == self._active.download.files_total:
                return
            has_changed = bool(differences.removed or differences.replaced)
            if fault and not has_changed and self._relisted:
                raise fault
            self._relisted = bool(fault) and not has_changed
        raise DownloaderError(
            ErrorCode.SOURCE_CHANGED,
            "the source kept changing while it was downloaded; resume when its upload has ended",
        )

    async def _plan(self) -> Differences:
        """Make a plan, and update the record. Report objects that changed or are left out."""
        download = self._active.download
        differences = await make_plan(download, self._source, self._store)
        if differences.replaced and download.started:
            self._on_fault(download, _replaced(download, differences))
        if differences.left_out and not download.started:
            fault = _left_out(download, differences)
            log.warning("%s: %s", download.download_id, fault)
            self._on_fault(download, fault)
        totals = await self._store.totals(download.download_id)
        same = totals.bytes_total == download.bytes_total and not differences.removed
        self._active.meter.restart(totals.bytes_done, keep_peak=same)
        self._state_machine.planned(self._active, totals)
        return differences

    async def _fetch(self) -> DownloaderError | None:
        """Fetch the missing files. Return an error that the next plan may resolve."""
        try:
            async with self._sink.fetching():
                await self._session.fetch(self._files.missing(), relisted=self._relisted)
        except DownloaderError as error:
            if error.code not in _RESOLVED_BY_THE_NEXT_PLAN:
                raise
            log.warning("%s: %s", self._active.download.download_id, error)
            return error
        return None


def _replaced(download: Download, differences: Differences) -> DownloaderError:
    what = _objects(download, differences.first_replaced, differences.replaced)
    return DownloaderError(
        ErrorCode.SOURCE_CHANGED,
        f"{what} changed in the source during the download; the earlier version is discarded, and"
        " the present one is fetched",
        key=differences.first_replaced,
        objects=differences.replaced,
    )


def _left_out(download: Download, differences: Differences) -> DownloaderError:
    what = _objects(download, differences.first_left_out, differences.left_out)
    return DownloaderError(
        ErrorCode.UNSAFE_KEY,
        f"{what} cannot become a file, because the key ends in /; it has content, but is left out;"
        " rename it in the object store if you need it",
        key=differences.first_left_out,
        objects=differences.left_out,
    )


def _objects(download: Download, first: str, count: int) -> str:
    """Return the URI of the first object, and the number of others."""
    others = count - 1
    more = f" and {others} other{'s' if others > 1 else ''}" if others else ""
    return f"{download.source.uri_of(first)}{more}"
