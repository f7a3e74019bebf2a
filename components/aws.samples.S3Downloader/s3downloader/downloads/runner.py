"""Carries out one download: plan, fetch, verify, publish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec

from ..core.aio import batches
from ..core.errors import DownloaderError, ErrorCode, Vanished
from ..core.records import Download, FileRecord, State
from ..core.throttle import Share
from ..engines.base import Engine, FetchJob
from ..store import Store
from .active_download import ActiveDownload
from .planning import path_safety, reuse
from .planning.plan import Differences, Listing, make_plan
from .publishing import replace
from .publishing.publish import not_staged, prepare, publish_files, publish_whole, sync_published

__all__ = ["DownloadRunner"]

log = logging.getLogger(__name__)

_ROUNDS = 3
"""How often a download follows a source that changes under it before it gives up."""

_MAY_BE_TOLD_BY_THE_NEXT_PLAN = {
    ErrorCode.OBJECT_NOT_FOUND,
    ErrorCode.SIZE_MISMATCH,
    ErrorCode.SOURCE_CHANGED,
}


class DownloadRunner:
    """Takes one download from `queued` to `publishing`'s end; raises what stops it.

    It may be cancelled at any moment, and begun again: it goes on with what is there.
    """

    def __init__(
        self,
        active: ActiveDownload,
        *,
        store: Store,
        listing: Listing,
        engine: Engine,
        share: Share,
        advance: Callable[..., Awaitable[None]],
        check_space: Callable[[ActiveDownload], None],
        checksum: reuse.AskChecksum,
        on_fault: Callable[[Download, DownloaderError], None],
    ) -> None:
        self._active = active
        self._store = store
        self._listing = listing
        self._engine = engine
        self._share = share
        self._advance = advance
        self._check_space = check_space
        self._checksum = checksum
        self._on_fault = on_fault
        self._begins = False
        self._relisted = False

    async def run(self, before_publishing: Callable[[Download], object]) -> None:
        """Carry the download out. `before_publishing` may object by raising."""
        if self._active.download.state is not State.PUBLISHING:
            exchange = self._active.download.exchange
            if not await asyncio.to_thread(replace.is_exchanged, self._active.download):
                await self._stage_files()
                before_publishing(self._active.download)
                exchange = await asyncio.to_thread(replace.begin, self._active.download)
            if not self._active.download.replaces:
                await self._record_staged()
            await self._advance(
                self._active, State.PUBLISHING, publish_began=True, exchange=exchange
            )
        await self._publish()
        async for batch in batches(self._files(done=True)):
            await reuse.record_published(self._active.download, batch, self._store)

    async def _record_staged(self) -> None:
        """Record what is to be moved into place, for good with the next change of state."""
        async for batch in batches(self._files(done=True)):
            await reuse.record_staged(self._active.download, batch, self._store)

    async def _stage_files(self) -> None:
        """Return once every file lies whole in the staging folder."""
        await self._advance(self._active, State.PLANNING, plan=self._active.download.plan + 1)
        is_new = await asyncio.to_thread(prepare, self._active.download)
        if self._active.download.plan > 1:
            await self._forget_broken()
        if not is_new:
            await self._engine.recover(self._job, self._files(done=False), self)
        if self._active.download.plan > 1:
            await self._store.mark_unpinned_missing(self._active.download.download_id)
        await self._plan()
        async for taken in reuse.stage_unchanged(
            self._active.download, self._store, self._checksum
        ):
            await self.finished(taken)
        self._active.meter.restart(self._active.meter.bytes_there, keep_peak=True)
        for _ in range(_ROUNDS):
            self._check_space(self._active)
            await self._advance(self._active, State.DOWNLOADING)
            fault = await self._fetch()
            await self._advance(self._active, State.VERIFYING, plan=self._active.download.plan + 1)
            differences = await self._verify()
            if self._active.download.files_done == self._active.download.files_total:
                return
            has_changed = bool(differences.gone or differences.replaced)
            if fault and not has_changed and self._relisted:
                raise fault
            self._relisted = bool(fault) and not has_changed
        raise DownloaderError(
            ErrorCode.SOURCE_CHANGED,
            "the source changed again and again while it was downloaded;"
            " resume when its upload has ended",
        )

    async def _plan(self) -> Differences:
        """Bring the plan up to date with the source, and the record with the plan."""
        download = self._active.download
        differences = await make_plan(download, self._listing, self._store)
        if differences.replaced and download.started:
            self._on_fault(download, _replaced(download, differences))
        if differences.left_out and not download.started:
            fault = _left_out(download, differences)
            log.warning("%s: %s", download.download_id, fault)
            self._on_fault(download, fault)
        totals = await self._store.totals(download.download_id)
        same = totals.bytes_total == download.bytes_total and not differences.gone
        self._active.meter.restart(totals.bytes_done, keep_peak=same)
        self._active.download = msgspec.structs.replace(self._active.download, **totals._asdict())
        return differences

    async def _fetch(self) -> DownloaderError | None:
        """Fetch what is missing; return what is not there as planned, for the next plan to show."""
        self._begins = True
        try:
            await self._engine.fetch(self._job, self._files(done=False), self)
        except DownloaderError as error:
            if error.code not in _MAY_BE_TOLD_BY_THE_NEXT_PLAN:
                raise
            log.warning("%s: %s", self._active.download.download_id, error)
            return error
        return None

    async def _verify(self) -> Differences:
        """See that what is done is whole, and in what the source is another than was planned.

        Raises Vanished where files that were fetched are gone by now.
        """
        if broken := await self._broken_files():
            await self._store.mark_missing(broken)
            raise _vanished(broken)
        return await self._plan()

    async def _forget_broken(self) -> None:
        """Have those files fetched again that are recorded as done and are not whole."""
        if broken := await self._broken_files():
            await self._store.mark_missing(broken)
            log.warning(
                "%s: %d files are not whole", self._active.download.download_id, len(broken)
            )

    async def _broken_files(self) -> list[FileRecord]:
        download = self._active.download
        broken: list[FileRecord] = []
        async for batch in batches(self._files(done=True)):
            away = await asyncio.to_thread(not_staged, download, batch)
            broken += await reuse.not_published(download, away, self._store)
        return broken

    async def _publish(self) -> None:
        download = self._active.download
        if not download.exchange or await asyncio.to_thread(replace.is_staged, download):
            await self._check_whole()
        if download.exchange:
            await asyncio.to_thread(replace.exchange_target, download)
            return
        if await asyncio.to_thread(publish_whole, download):
            return
        check_target = path_safety.TargetCheck(Path(download.destination))
        async for batch in batches(self._files(done=True)):
            await asyncio.to_thread(check_target, [file.path for file in batch])
        touched: set[Path] = set()
        async for batch in batches(self._files(done=True)):
            folders, absent = await asyncio.to_thread(publish_files, download, batch)
            touched |= folders
            if lost := await reuse.not_published(download, absent, self._store):
                raise Vanished(
                    f"{lost[0].path} disappeared while it was published; resume to fetch it again"
                )
        await asyncio.to_thread(sync_published, Path(download.destination), touched)

    async def _check_whole(self) -> None:
        """Raise Vanished where a file went after it was verified: none is published without it."""
        if broken := await self._broken_files():
            raise _vanished(broken)  # not marked: another process that publishes looks again

    def _files(self, *, done: bool) -> AsyncIterable[FileRecord]:
        """Return the files that are done, or not; to be gone through as often as one likes."""
        return _Files(self._store, self._active.download.download_id, done)

    @property
    def _job(self) -> FetchJob:
        download = self._active.download
        return FetchJob(
            download_id=download.download_id,
            bucket=download.bucket,
            staging=Path(download.staging),
            options=download.options,
            share=self._share,
            relisted=self._relisted,
        )

    def progress(self, in_flight: int) -> None:
        """Take an engine's report of bytes that belong to no finished file yet."""
        self._active.meter.progress(in_flight)
        if self._begins:  # with what earlier fetches left, which did not arrive just now
            self._begins = False
            self._active.meter.forget_rate()

    async def finished(self, files: list[FileRecord]) -> None:
        """Take an engine's report of files that are whole and synced."""
        await self._store.mark_done(files)
        self._active.meter.settle(sum(file.size for file in files))
        self._active.failures_in_a_row = 0
        done = self._active.download.files_done + len(files)
        self._active.download = msgspec.structs.replace(self._active.download, files_done=done)


def _vanished(broken: list[FileRecord]) -> Vanished:
    first, count = broken[0].path, len(broken)
    return Vanished(
        f"{count} files vanished before they were published, {first} among them;"
        " resume to fetch them again"
    )


def _replaced(download: Download, differences: Differences) -> DownloaderError:
    what = _objects(download, differences.first_replaced, differences.replaced)
    return DownloaderError(
        ErrorCode.SOURCE_CHANGED,
        f"{what} changed in the source on the way; what had arrived of the earlier version is given"
        " up, and the present one is fetched",
        key=differences.first_replaced,
        objects=differences.replaced,
    )


def _left_out(download: Download, differences: Differences) -> DownloaderError:
    what = _objects(download, differences.first_left_out, differences.left_out)
    return DownloaderError(
        ErrorCode.UNSAFE_KEY,
        f"{what} cannot become a file, as the key ends in /, though it has content; it is left out,"
        " so rename it in the store if it is needed",
        key=differences.first_left_out,
        objects=differences.left_out,
    )


def _objects(download: Download, first: str, count: int) -> str:
    """Name the first of some objects, and how many others there are."""
    others = count - 1
    more = f" and {others} other{'s' if others > 1 else ''}" if others else ""
    return f"s3://{download.bucket}/{first}{more}"


class _Files(AsyncIterable[FileRecord]):
    def __init__(self, store: Store, download_id: str, done: bool) -> None:
        self._store = store
        self._download_id = download_id
        self._done = done

    def __aiter__(self) -> AsyncIterator[FileRecord]:
        return self._store.files(self._download_id, done=self._done)
