"""Owns the downloads: admits them, lets so many work at once, and moves them between states."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..contract import commands
from ..core.aio import TaskGroup, stop, uninterrupted
from ..core.backoff import pause_after
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode, Vanished, from_system
from ..core.records import ACTIVE, FINISHED, Download, Failure, State, Version
from ..core.settings import Settings
from ..core.throttle import Share
from ..engines.base import Engine
from ..models.registry import MakeResponses, Registry
from ..store import Change, Store
from ..store.outbox import Outbox
from . import events
from .active_download import ActiveDownload
from .planning import path_safety
from .planning.admission import admit, check_free, check_space, check_target, limited, model_id
from .planning.plan import Listing
from .planning.reuse import forget_missing, published_name
from .policy.bandwidth import Bandwidth
from .policy.deadlines import Deadlines, overrun
from .publishing.publish import discard
from .publishing.versions import Versions
from .runner import DownloadRunner
from .state_machine import CommandContext, StateMachine, check_resumable, require

__all__ = ["DownloadManager", "Source"]

log = logging.getLogger(__name__)

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0
_WRITE_AGAIN = 10.0
_MOST_RESTARTS = 3
"""How often a download begins again because something removes its files, before it gives up."""
_KEPT_SECONDS = 7 * 86_400.0
_KEPT_DOWNLOADS = 1_000
_MOST_RESPONSES = 10_000
_PRUNE_INTERVAL = 3_600.0
_ENDED = FINISHED | {State.FAILED}


class Source(Listing, Protocol):
    """What downloads need of the store that they come from."""

    async def checksum(self, bucket: str, key: str, etag: str, size: int) -> str:
        """Return the checksum that the store has of an object, as a file's record keeps it."""


class DownloadManager:
    """The state machine of all downloads. Its methods raise DownloaderError for a refusal."""

    def __init__(
        self,
        *,
        store: Store,
        outbox: Outbox,
        registry: Registry,
        listing: Source,
        engine: Engine,
        bandwidth: Bandwidth,
        settings: Callable[[], Settings],
        clock: Clock,
        transient: frozenset[ErrorCode],
        on_change: Callable[[], None],
        on_fault: Callable[[Download, DownloaderError], None],
    ) -> None:
        """`transient` are the codes of faults that pass by themselves.

        `on_change` is called after every change of a state, `on_fault` when a download fails or
        its source changes.
        """
        self._store = store
        self._registry = registry
        self._listing = listing
        self._engine = engine
        self._bandwidth = bandwidth
        self._settings = settings
        self._clock = clock
        self._transient = transient
        self._on_change = on_change
        self._on_fault = on_fault
        self._versions = Versions(store=store, record=outbox.record, registry=registry, clock=clock)
        self._downloads: dict[str, ActiveDownload] = {}
        self._deadlines = Deadlines(clock)
        self._state_machine = StateMachine(
            outbox, clock, lambda: settings().max_payload_bytes, self._changed
        )
        self._queue: deque[ActiveDownload] = deque()
        self._working: set[ActiveDownload] = set()
        self._group: TaskGroup | None = None
        self._began = (clock.now(), clock.monotonic())

    async def load(self) -> None:
        """Take up what an earlier process left: all that was under way goes on by itself."""
        await self._versions.load()
        for download in await self._store.downloads():
            active = self._downloads[download.download_id] = ActiveDownload(download, self._clock)
            if download.state in FINISHED:
                await asyncio.to_thread(discard, download)
                continue
            totals = await self._store.totals(download.download_id)
            active.meter.restart(totals.bytes_done, keep_peak=True)
            if download.state in ACTIVE:
                self._requeue(active)
                self._deadlines.changed(active)

    def _changed(self, active: ActiveDownload) -> None:
        self._deadlines.changed(active)
        self._on_change()

    async def run(self) -> None:
        """Work until cancelled; what is under way then is taken up by the next process."""
        async with TaskGroup() as group:
            self._group = group
            try:
                self.schedule()
                group.create_task(self._deadlines.watch(self._time_out))
                while True:
                    await self._prune()
                    await self._clock.sleep(_PRUNE_INTERVAL)
            finally:
                self._group = None

    def schedule(self) -> None:
        """Let the first in the queue work while MaxConcurrentDownloads allows it."""
        while self._group and self._queue and self._has_slot():
            active = self._queue.popleft()
            self._working.add(active)
            active.task = self._group.create_task(self._work(active))

    def _has_slot(self) -> bool:
        return len(self._working) < self._settings().max_concurrent_downloads

    @property
    def downloads(self) -> list[ActiveDownload]:
        """All downloads, the oldest first."""
        return list(self._downloads.values())

    def find(self, download_id: str) -> ActiveDownload:
        """Return a download or raise DOWNLOAD_NOT_FOUND."""
        if active := self._downloads.get(download_id):
            return active
        raise DownloaderError(
            ErrorCode.DOWNLOAD_NOT_FOUND,
            f"there is no download {download_id!r}; the command list shows those there are",
            download_id=download_id,
        )

    async def save_progress(self) -> None:
        """Write down how far the downloads at work are, where it can be written."""
        try:
            await self._state_machine.save_progress(self._downloads.values())
            await self._bandwidth.save()
        except DownloaderError as error:
            log.error("the progress could not be saved: %s", error)

    async def start(self, command: commands.Download, respond: Callable[[Download], bytes]) -> None:
        """Admit a new download, which then waits for its turn."""
        if command.download_id in self._downloads:
            raise DownloaderError(
                ErrorCode.DUPLICATE_DOWNLOAD,
                f"there is a download {command.download_id!r} already; choose another download_id",
                download_id=command.download_id,
            )
        download = admit(command, self._settings(), self._clock.now())
        check_target(download, self._downloads.values())
        self._versions.check_free(download.target)
        self._model(download)
        active = self._downloads[download.download_id] = ActiveDownload(download, self._clock)
        async with active.lock:
            try:
                context = CommandContext(command.command_id, respond)
                await self._state_machine.open(active, context)
            except DownloaderError:
                del self._downloads[download.download_id]
                raise
            self._enqueue(active)

    async def pause(self, download_id: str, context: CommandContext) -> None:
        """Stop the traffic of a download and keep what it has."""
        async with self._locked(download_id) as active:
            await self._halt(active, State.PAUSED, self._state_machine.pause, context)

    async def cancel(self, download_id: str, context: CommandContext) -> None:
        """Give a download up and remove what it has staged."""
        async with self._locked(download_id) as active:
            await self._halt(active, State.CANCELLED, self._state_machine.cancel, context)
            await asyncio.to_thread(discard, active.download)

    async def resume(self, download_id: str, context: CommandContext) -> None:
        """Let a paused, failed or waiting download go on from what it has."""
        async with self._locked(download_id) as active:
            check_resumable(active.download)
            check_target(active.download, self._downloads.values())
            self._versions.check_free(active.download.target)
            await stop(active.task)
            check_resumable(active.download)
            active.failures_in_a_row = active.restarts = 0
            try:
                await self._state_machine.resume(active, context)
            finally:
                self._requeue_if_active(active)

    async def limit(self, download_id: str, limit: int | None, context: CommandContext) -> None:
        """Set a download's own limit in bytes per second, None or 0 for none; applied at once."""
        async with self._locked(download_id) as active:
            options = limited(active.download, limit)
            await self._state_machine.amend(active, options, context)
            if active.share:
                active.share.limit = options.max_bandwidth or 0

    async def _time_out(self, active: ActiveDownload) -> None:
        """Let a download whose time is over fail, unless it is publishing by now."""
        async with active.lock:
            if not self._deadlines.is_over(active):
                return
            await self._stop_work(active)
            error = overrun(active)
            failure = Failure(error.code, error.message, error.details)
            try:
                if self._deadlines.is_over(active):
                    await self._state_machine.fail(active, failure)
                    self._on_fault(active.download, error)
            except DownloaderError as obstacle:
                log.error("%s: %s", active.download.download_id, obstacle)
            finally:
                self._requeue_if_active(active)

    async def roll_back(self, model_id: str, make_responses: MakeResponses) -> None:
        """Bring the version before of a model back; `make_responses` gets its entry."""
        await self._versions.roll_back(model_id, make_responses, self._check_rollback)

    async def delete_model(self, model_id: str, make_responses: MakeResponses) -> None:
        """Remove a model from the registry, and the earlier versions that are retained of it."""
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
        """Have the say over a download's state."""
        async with self.find(download_id).lock:
            yield self.find(download_id)

    async def _halt(
        self,
        active: ActiveDownload,
        goal: State,
        enter: Callable[[ActiveDownload, CommandContext], Awaitable[None]],
        context: CommandContext,
    ) -> None:
        """Stop the work on a download and bring it into `goal`; publishing runs to its end."""
        if active.download.state is State.PUBLISHING and active.task:
            await asyncio.wait([active.task])
        require(active.download, goal)
        await self._stop_work(active)
        try:
            await enter(active, context)
        finally:
            self._requeue_if_active(active)

    async def _stop_work(self, active: ActiveDownload) -> None:
        while active in self._queue or (active.task and not active.task.done()):
            if active in self._queue:
                self._queue.remove(active)
            await stop(active.task)  # which may have queued it again before it heeded that

    def _requeue_if_active(self, active: ActiveDownload) -> None:
        """Take a download up again whose work was stopped, but which stayed active."""
        if active.download.state in ACTIVE:
            self._requeue(active)
            self.schedule()

    def _enqueue(self, active: ActiveDownload) -> None:
        self._queue.append(active)
        self.schedule()

    def _requeue(self, active: ActiveDownload) -> None:
        """Queue a download on which nobody works though its record says so."""
        self._state_machine.requeue(active)
        self._queue.append(active)

    async def _work(self, active: ActiveDownload) -> None:
        """Take one download as far as it comes, then give its slot to the next."""
        try:
            with self._bandwidth.throttle.open(active.download.options.max_bandwidth) as share:
                active.share = share
                error = await self._run(active, share)
        finally:
            active.share = None
            self._working.discard(active)
            self.schedule()
        if error:
            await self._handle_failure(active, error)

    async def _run(self, active: ActiveDownload, share: Share) -> DownloaderError | None:
        """Bring a download to its end, or return what stops it."""
        runner = DownloadRunner(
            active,
            store=self._store,
            listing=self._listing,
            engine=self._engine,
            share=share,
            state_machine=self._state_machine,
            check_space=self._check_space,
            checksum=self._listing.checksum,
            on_fault=self._on_fault,
        )
        try:
            destination = active.download.destination  # recorded under the configuration of then
            roots = self._settings().destination_roots
            path_safety.check_allowed(Path(destination), roots, destination)
            await runner.run(before_publishing=self._model)
            await uninterrupted(self._complete(active))
            await self._versions.delete_pending()
        except DownloaderError as error:
            return error
        except Exception as error:
            if known := from_system(error):
                return known
            log.exception("%s: the downloader itself failed", active.download.download_id)
            return DownloaderError(ErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        return None

    async def _complete(self, active: ActiveDownload) -> None:
        await asyncio.to_thread(discard, active.download)
        announced: list[events.Announcement] = []
        models: dict[str, dict[str, Any] | None] = {}
        async with self._registry.changing:
            if model := self._model(active.download):
                models[model["model_id"]] = model
                announced.append(events.model_added(model))
            versions = self._versions.completed_with(active.download)
            also = msgspec.structs.replace(versions, models=models)
            await self._state_machine.complete(active, *announced, also=also)
            self._registry.adopt(models)
            self._versions.adopt(also.versions)

    async def _handle_failure(self, active: ActiveDownload, error: DownloaderError) -> None:
        """Wait where a fault passes by itself, begin again where files are gone, or else fail."""
        if isinstance(error, Vanished):
            if active.restarts < _MOST_RESTARTS:
                log.warning("%s begins again: %s", active.download.download_id, error)
                self._on_fault(active.download, error)
                active.restarts += 1
                await self._queue_again(active)
                return
            error = _too_many_restarts(error)
        failure = Failure(error.code, error.message, error.details)
        log.warning("%s: %s: %s", active.download.download_id, error.code.value, error.message)
        if error.code not in self._transient:
            await self._advance_with_retry(
                active, partial(self._state_machine.fail, active, failure)
            )
            self._on_fault(active.download, error)
            return
        if active.download.state is not State.PUBLISHING:  # which is carried to its end
            await self._advance_with_retry(
                active, partial(self._state_machine.wait, active, failure)
            )
        elif not active.failures_in_a_row:
            self._on_fault(active.download, error)
        active.failures_in_a_row += 1
        await self._clock.sleep(pause_after(active.failures_in_a_row, _FIRST_WAIT, _LONGEST_WAIT))
        if active.download.state is State.PUBLISHING:
            self._enqueue(active)
        else:
            await self._queue_again(active)

    async def _queue_again(self, active: ActiveDownload) -> None:
        try:
            await self._advance_with_retry(active, partial(self._state_machine.queue, active))
        finally:  # cancelled too, for by then that may be recorded
            if active.download.state is State.QUEUED:
                self._enqueue(active)

    async def _advance_with_retry(
        self, active: ActiveDownload, change: Callable[[], Awaitable[None]]
    ) -> None:
        """Make a change as soon as it can be written: StateDir's disk may be full for a while."""
        while True:
            try:
                await change()
            except DownloaderError as error:
                log.error("%s: %s", active.download.download_id, error)
                if error.code is ErrorCode.INVALID_STATE:
                    return
                await self._clock.sleep(_WRITE_AGAIN)
            else:
                return

    def _check_space(self, active: ActiveDownload) -> None:
        check_space(active, self._downloads.values(), self._settings().min_free_bytes)

    def _model(self, download: Download) -> dict[str, Any] | None:
        """Return the registry's entry for the model of a download, if it carries one."""
        if download.model_meta is None:
            return None
        return self._registry.updated(
            download.model_meta, model_id=model_id(download), local_path=download.target
        )

    async def _prune(self) -> None:
        """Forget what ended long ago, and the oldest of too many."""
        try:
            for active in self._expired():
                async with active.lock:
                    if active.download.state in _ENDED:
                        download_id = active.download.download_id
                        await asyncio.to_thread(discard, active.download)
                        await self._store.record(Change(forgotten=[download_id]))
                        del self._downloads[download_id]
            now = self._clock.now()
            before = 0.0 if self._clock_jumped() else now - _KEPT_SECONDS
            await self._store.forget_responses(before=before, most=_MOST_RESPONSES)
            await self._versions.tidy()
            downloads = [active.download for active in self.downloads]
            unfinished = [d for d in downloads if d.state not in FINISHED]
            exchanged = (published_name(d) for d in unfinished if d.exchange)
            await forget_missing(self._store, (*exchanged, *(d.staging for d in unfinished)))
        except Exception as error:
            failure = error if isinstance(error, DownloaderError) else from_system(error)
            if failure is None:
                raise
            log.warning("nothing old could be forgotten: %s", failure)

    def _expired(self) -> list[ActiveDownload]:
        ended = [active for active in self._downloads.values() if active.download.state in _ENDED]
        ended.sort(key=self._age, reverse=True)
        surplus = len(ended) - _KEPT_DOWNLOADS
        aged = [self._age(active) for active in ended]
        return [a for n, a in enumerate(ended) if n < surplus or aged[n] > _KEPT_SECONDS]

    def _age(self, active: ActiveDownload) -> float:
        """Return the seconds since a download ended, whatever was done to the wall clock."""
        if active.entered is not None:
            return self._clock.monotonic() - active.entered
        return self._clock.now() - active.download.updated_at

    def _clock_jumped(self) -> bool:
        """Tell whether the wall clock was set since the start, as on a device without its own."""
        now, monotonic = self._began
        drift = (self._clock.now() - now) - (self._clock.monotonic() - monotonic)
        return abs(drift) > _PRUNE_INTERVAL


def _too_many_restarts(error: Vanished) -> DownloaderError:
    return DownloaderError(
        error.code,
        f"{error.message}. It happened {_MOST_RESTARTS + 1} times: first find out what removes"
        " files there, such as a job that cleans up",
        **error.details,
    )
