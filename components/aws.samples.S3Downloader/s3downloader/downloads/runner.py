"""Runs one download: recover, plan, fetch, verify, publish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from ..core.aio import batches
from ..core.errors import DownloaderError, Vanished
from ..core.records import Download, State
from ..core.throttle import Share
from ..engines.base import Engine, FetchJob, FetchSession
from ..sources.registry import Sources
from ..store import Store
from .active_download import ActiveDownload
from .planning import path_safety, reuse
from .progress import ProgressSink
from .publishing import replace
from .publishing.publish import prepare, publish_directory, publish_files, sync_published
from .staged_files import StagedFiles
from .stager import Stager
from .state_machine import StateMachine

__all__ = ["DownloadRunner"]


class DownloadRunner:
    """Runs one download from QUEUED to the end of PUBLISHING.

    It may be cancelled at any time. A new runner continues with what is on disk.
    """

    def __init__(
        self,
        active: ActiveDownload,
        *,
        store: Store,
        sources: Sources,
        engine: Engine,
        share: Share,
        state_machine: StateMachine,
        check_space: Callable[[ActiveDownload], None],
        on_fault: Callable[[Download, DownloaderError], None],
    ) -> None:
        self._active = active
        self._store = store
        self._sources = sources
        self._engine = engine
        self._share = share
        self._state_machine = state_machine
        self._check_space = check_space
        self._on_fault = on_fault
        self._files = StagedFiles(active, store)
        self._sink = ProgressSink(active, store, state_machine)

    async def run(self, before_publishing: Callable[[Download], object]) -> None:
        """Run the download. Raises the error that stops it.

        `before_publishing` is called with the record, and may prevent the publishing by raising.
        """
        if self._active.download.state is not State.PUBLISHING:
            exchange = self._active.download.exchange
            if not await asyncio.to_thread(replace.is_exchanged, self._active.download):
                await self._stage_files()
                before_publishing(self._active.download)
                exchange = await asyncio.to_thread(replace.begin, self._active.download)
            if not self._active.download.replaces:
                await self._record_staged()
            await self._state_machine.begin_publishing(self._active, exchange)
        await self._publish()
        async for batch in batches(self._files.done()):
            await reuse.record_published(self._active.download, batch, self._store)

    async def _stage_files(self) -> None:
        """Plan, fetch and verify, until every file is complete in the staging folder."""
        await self._state_machine.begin_plan(self._active)
        await asyncio.to_thread(prepare, self._active.download)
        stager = Stager(
            await self._recover(),
            self._active,
            store=self._store,
            files=self._files,
            sink=self._sink,
            source=self._sources.open(self._active.download.source),
            state_machine=self._state_machine,
            check_space=self._check_space,
            on_fault=self._on_fault,
        )
        await stager.run()

    async def _recover(self) -> FetchSession:
        """Have the engine recover what earlier runs left, and return the session that fetches.

        The records of the files are updated to match the staging folder.
        """
        download = self._active.download
        ran_before = download.plan > 1
        if ran_before:
            await self._files.mark_incomplete()
        job = FetchJob(
            download_id=download.download_id,
            source=download.source,
            staging=Path(download.staging),
            options=download.options,
            share=self._share,
        )
        session = await self._engine.recover(job, self._files.missing(), self._sink)
        if ran_before:
            await self._store.mark_unpinned_missing(download.download_id)
        return session

    async def _record_staged(self) -> None:
        """Record the staged files before they are moved. The next change of state syncs this."""
        async for batch in batches(self._files.done()):
            await reuse.record_staged(self._active.download, batch, self._store)

    async def _publish(self) -> None:
        download = self._active.download
        if not download.exchange or await asyncio.to_thread(replace.is_staged, download):
            await self._files.check()  # marks no file as missing: the next publishing checks again
        if download.exchange:
            await asyncio.to_thread(replace.exchange_target, download)
            return
        if await asyncio.to_thread(publish_directory, download):
            return
        await self._publish_files()

    async def _publish_files(self) -> None:
        """Move the files into an existing directory. Before that, check that all may be moved."""
        download = self._active.download
        check_target = path_safety.TargetCheck(Path(download.destination))
        async for batch in batches(self._files.done()):
            await asyncio.to_thread(check_target, [file.path for file in batch])
        touched: set[Path] = set()
        async for batch in batches(self._files.done()):
            folders, absent = await asyncio.to_thread(publish_files, download, batch)
            touched |= folders
            if lost := await reuse.not_published(download, absent, self._store):
                raise Vanished(
                    f"{lost[0].path} disappeared while it was published; resume to fetch it again"
                )
        await asyncio.to_thread(sync_published, Path(download.destination), touched)
