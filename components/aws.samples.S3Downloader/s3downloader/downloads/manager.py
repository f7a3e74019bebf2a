"""Manages all downloads: admits them, carries out commands on them, and runs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ..contract import commands
from ..core.aio import TaskGroup, uninterrupted
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode, from_system
from ..core.records import ACTIVE, FINISHED, Download, State, Version
from ..core.settings import Settings
from ..core.throttle import Share
from ..engines.base import Engine
from ..models.registry import MakeResponses, Registry
from ..sources.registry import Sources
from ..store import Store
from ..store.outbox import Outbox
from .active_download import ActiveDownload
from .completion import Completion
from .planning import path_safety
from .planning.admission import admit, check_free, check_space, check_target, with_limit
from .policy.bandwidth import Bandwidth
from .policy.deadlines import Deadlines, timeout_error
from .policy.failures import FailureHandler, failure_of
from .policy.pruning import Pruner
from .publishing.publish import discard
from .publishing.versions import Versions
from .runner import DownloadRunner
from .state_machine import CommandContext, StateMachine, check_resumable, require
from .work_queue import WorkQueue

__all__ = ["DownloadManager"]

log = logging.getLogger(__name__)


class DownloadManager:
    """All downloads, and the commands on them. A refused command raises DownloaderError."""

    def __init__(
        self,
        *,
        store: Store,
        outbox: Outbox,
        registry: Registry,
        sources: Sources,
        engine: Engine,
        bandwidth: Bandwidth,
        settings: Callable[[], Settings],
        clock: Clock,
        transient: frozenset[ErrorCode],
        on_change: Callable[[], None],
        on_fault: Callable[[Download, DownloaderError], None],
    ) -> None:
        """`transient` are the codes of errors that pass by themselves.

        `on_change` is called after every change of a state. `on_fault` is called if a download
        fails or starts again, if its source changes, if an object is left out, and if it cannot
        continue to publish yet.
        """
        self._store = store
        self._registry = registry
        self._sources = sources
        self._engine = engine
        self._bandwidth = bandwidth
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._on_fault = on_fault
        self._downloads: dict[str, ActiveDownload] = {}
        self._deadlines = Deadlines(clock)
        self._versions = Versions(store=store, record=outbox.record, registry=registry, clock=clock)
        self._state_machine = StateMachine(
            outbox, clock, lambda: settings().max_payload_bytes, self._changed
        )
        self._queue = WorkQueue(
            self._work,
            limit=lambda: settings().max_concurrent_downloads,
            state_machine=self._state_machine,
        )
        self._failures = FailureHandler(
            self._state_machine, clock, transient=transient, on_fault=on_fault
        )
        self._completion = Completion(self._state_machine, registry, self._versions)
        self._pruner = Pruner(self._downloads, store=store, versions=self._versions, clock=clock)

    async def load(self) -> None:
        """Load the downloads of the database. Queue those in active states."""
        await self._versions.load()
        for download in await self._store.downloads():
            active = self._downloads[download.download_id] = ActiveDownload(download, self._clock)
            if download.state in FINISHED:
                await asyncio.to_thread(discard, download)
                continue
            totals = await self._store.totals(download.download_id)
            active.meter.restart(totals.bytes_done, keep_peak=True)
            if download.state in ACTIVE:
                self._queue.add(active)
                self._deadlines.changed(active)

    async def run(self) -> None:
        """Run downloads until cancelled. The next process continues the unfinished ones."""
        async with TaskGroup() as group:
            with self._queue.working_in(group):
                group.create_task(self._deadlines.watch(self._time_out))
                await self._pruner.run()

    def schedule(self) -> None:
        """Start queued downloads, up to MaxConcurrentDownloads: this limit may have changed."""
        self._queue.schedule()

    @property
    def downloads(self) -> list[ActiveDownload]:
        """All downloads. The oldest comes first."""
        return list(self._downloads.values())

    def find(self, download_id: str) -> ActiveDownload:
        """Return a download. Raises DOWNLOAD_NOT_FOUND."""
        if active := self._downloads.get(download_id):
            return active
        raise DownloaderError(
            ErrorCode.DOWNLOAD_NOT_FOUND,
            f"there is no download {download_id!r}; the command list shows all downloads",
            download_id=download_id,
        )

    async def save_progress(self) -> None:
        """Record the progress of running downloads, if the disk allows it."""
        try:
            await self._state_machine.save_progress(self._downloads.values())
            await self._bandwidth.save()
        except DownloaderError as error:
            log.error("the progress could not be saved: %s", error)

    # --- Commands --------------------------------------------------------------------------------

    async def start(self, command: commands.Download, respond: Callable[[Download], bytes]) -> None:
        """Admit a new download, and queue it."""
        if command.download_id in self._downloads:
            raise DownloaderError(
                ErrorCode.DUPLICATE_DOWNLOAD,
                f"a download {command.download_id!r} exists already; choose another download_id",
                download_id=command.download_id,
            )
        download = admit(command, self._settings(), self._clock.now())
        check_target(download, self._downloads.values())
        self._versions.check_free(download.target)
        self._completion.model(download)
        active = self._downloads[download.download_id] = ActiveDownload(download, self._clock)
        async with active.lock:
            try:
                context = CommandContext(command.command_id, respond)
                await self._state_machine.open(active, context)
            except DownloaderError:
                del self._downloads[download.download_id]
                raise
            self._queue.add(active)

    async def pause(self, download_id: str, context: CommandContext) -> None:
        """Stop a download, and keep its staged files."""
        async with self._locked(download_id) as active, self._halted(active, State.PAUSED):
            await self._state_machine.pause(active, context)

    async def cancel(self, download_id: str, context: CommandContext) -> None:
        """Stop a download for good, and remove its staged files."""
        async with self._locked(download_id) as active:
            async with self._halted(active, State.CANCELLED):
                await self._state_machine.cancel(active, context)
            await asyncio.to_thread(discard, active.download)

    async def resume(self, download_id: str, context: CommandContext) -> None:
        """Queue a paused, failed or waiting download. It continues from what has arrived."""
        async with self._locked(download_id) as active:
            check_resumable(active.download)
            check_target(active.download, self._downloads.values())
            self._versions.check_free(active.download.target)
            async with self._queue.stopped(active):
                check_resumable(active.download)
                active.failures_in_a_row = active.restarts = 0
                await self._state_machine.resume(active, context)

    async def limit(self, download_id: str, limit: int | None, context: CommandContext) -> None:
        """Set a download's own limit in bytes per second, None or 0 for none. Applies at once."""
        async with self._locked(download_id) as active:
            options = with_limit(active.download, limit)
            await self._state_machine.amend(active, options, context)
            if active.share:
                active.share.limit = options.max_bandwidth or 0

    async def roll_back(self, model_id: str, make_responses: MakeResponses) -> None:
        """Restore the last earlier version of a model.

        `make_responses` makes the responses from the restored entry of the registry.
        """
        await self._versions.roll_back(model_id, make_responses, self._check_rollback)

    async def delete_model(self, model_id: str, make_responses: MakeResponses) -> None:
        """Delete a model from the registry, and its retained versions."""
        deleted: list[Version] = []

        def versions_of(model: dict[str, Any]) -> list[Version]:
            deleted.extend(self._versions.deleted_with(model))
            return deleted

        await self._registry.delete(model_id, make_responses, versions_of)
        self._versions.adopt(deleted)
        await self._versions.delete_pending()

    def _check_rollback(self, target: Path) -> None:
        path_safety.resolve_destination(str(target.parent), self._settings().destination_roots)
        check_free(str(target), self._downloads.values())

    @asynccontextmanager
    async def _locked(self, download_id: str) -> AsyncIterator[ActiveDownload]:
        """Hold the lock of a download, so that only this command decides about its state."""
        async with self.find(download_id).lock:
            yield self.find(download_id)

    @asynccontextmanager
    async def _halted(self, active: ActiveDownload, goal: State) -> AsyncIterator[None]:
        """Stop a download that will enter `goal`. If it is publishing, wait until that has ended.

        Raises INVALID_STATE if it may not enter `goal`.
        """
        if active.download.state is State.PUBLISHING and active.task:
            await asyncio.wait([active.task])
        require(active.download, goal)
        async with self._queue.stopped(active):
            yield

    # --- Work ------------------------------------------------------------------------------------

    async def _work(self, active: ActiveDownload) -> None:
        """Run a download until it ends or stops, then pass its slot to the next one.

        After a transient error it waits without a slot, and is then queued again.
        """
        error = await self._run(active)
        pause = await self._failures.handle(active, error) if error else None
        self._queue.release(active)
        if pause is None:
            return
        if pause:
            await self._clock.sleep(pause)
        await self._failures.end_wait(active)
        if active.download.state in ACTIVE:
            self._queue.add(active)

    async def _run(self, active: ActiveDownload) -> DownloaderError | None:
        """Run a download to its end. Return the error if one stops it."""
        try:
            with self._bandwidth.throttle.open(active.download.options.max_bandwidth) as share:
                active.share = share
                await self._carry_out(active, share)
        except DownloaderError as error:
            return error
        except Exception as error:
            if known := from_system(error):
                return known
            log.exception("%s: an internal error stopped it", active.download.download_id)
            return DownloaderError(ErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        finally:
            active.share = None
        return None

    async def _carry_out(self, active: ActiveDownload, share: Share) -> None:
        destination = active.download.destination  # the configuration may have changed since
        roots = self._settings().destination_roots
        path_safety.check_allowed(Path(destination), roots, destination)
        runner = DownloadRunner(
            active,
            store=self._store,
            sources=self._sources,
            engine=self._engine,
            share=share,
            state_machine=self._state_machine,
            check_space=self._check_space,
            on_fault=self._on_fault,
        )
        await runner.run(before_publishing=self._completion.model)
        await uninterrupted(self._completion.complete(active))
        await self._versions.delete_pending()

    def _check_space(self, active: ActiveDownload) -> None:
        check_space(active, self._downloads.values(), self._settings().min_free_bytes)

    async def _time_out(self, active: ActiveDownload) -> None:
        """Let a download that exceeds its timeout fail, unless it is publishing now."""
        async with active.lock:
            if not self._deadlines.is_over(active):
                return
            try:
                async with self._queue.stopped(active):
                    if self._deadlines.is_over(active):
                        error = timeout_error(active)
                        await self._state_machine.fail(active, failure_of(error))
                        self._on_fault(active.download, error)
            except DownloaderError as obstacle:
                log.error("%s: %s", active.download.download_id, obstacle)

    def _changed(self, active: ActiveDownload) -> None:
        self._deadlines.changed(active)
        self._on_change()
