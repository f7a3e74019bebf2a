"""Connects all parts of the daemon to the adapters that main.py chose, and runs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..control.handlers import Handlers
from ..control.service import S3CommandService
from ..control.status import StatusReporter
from ..core import logs, settings
from ..core.aio import TaskGroup, stop, uninterrupted
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode
from ..core.settings import LiveSettings
from ..downloads.manager import DownloadManager
from ..downloads.policy.bandwidth import Bandwidth
from ..downloads.policy.deferral import Deferral
from ..engines.base import Engine
from ..messaging.bus import Bus, Shadow
from ..messaging.fitting import publish_fitting
from ..models.registry import Registry
from ..sources.registry import Sources
from ..store import RESPONSES, Store
from ..store.inbox import Inbox
from ..store.outbox import Outbox

__all__ = ["Daemon"]

log = logging.getLogger(__name__)


Report = Callable[[], Coroutine[Any, Any, None]]


async def _no_report() -> None:
    return


class Daemon:
    """The downloader of one thing, with its bus and its database."""

    def __init__(
        self,
        *,
        thing_name: str,
        live: LiveSettings,
        bus: Bus,
        shadow: Shadow | None,
        sources: Sources,
        engine: Engine,
        clock: Clock,
        transient: frozenset[ErrorCode],
    ) -> None:
        """Open the database. Raises the errors of Store.

        `bus` is opened by `serve`, after the database has been read. `transient` has the codes of
        errors that pass by themselves.
        """
        topics = f"{live().topic_prefix}/{thing_name}"
        self._live = live
        self._bus = bus
        self._store = Store(Path(live().state_dir))
        respond = partial(publish_fitting, bus, f"{topics}/responses", qos=1)
        self._outbox = Outbox(self._store, {RESPONSES: respond}, clock)
        bus.watch_link(self._outbox.connected)
        self._status = StatusReporter(
            device_id=thing_name,
            publish=partial(publish_fitting, bus, f"{topics}/status", qos=0),
            settings=live,
            clock=clock,
        )
        self._registry = Registry(
            store=self._store,
            record=self._outbox.record,
            shadow=shadow,
            max_bytes=lambda: live().shadow_max_bytes,
            clock=clock,
            warn=self._status.warn,
        )
        self._bandwidth = Bandwidth(self._store, self._outbox, live, clock)
        self._manager = DownloadManager(
            store=self._store,
            outbox=self._outbox,
            registry=self._registry,
            sources=sources,
            engine=engine,
            bandwidth=self._bandwidth,
            settings=live,
            clock=clock,
            transient=transient,
            on_change=self._status.changed,
            on_fault=self._status.fault,
        )
        self._deferral = Deferral(
            lambda: self._manager.downloads, lambda: live().defer_update_seconds, clock
        )
        self._handlers = Handlers(
            device_id=thing_name,
            store=self._store,
            outbox=self._outbox,
            manager=self._manager,
            bandwidth=self._bandwidth,
            registry=self._registry,
            sources=sources,
            settings=live,
            clock=clock,
        )
        self._inbox = Inbox(self._store, clock)
        self._service = S3CommandService(
            bus=bus,
            topic=f"{topics}/commands",
            store=self._store,
            inbox=self._inbox,
            outbox=self._outbox,
            handle=self._handlers.handle,
            settings=live,
            clock=clock,
            warn=self._status.warn,
        )

    async def serve(self, report_running: Report = _no_report) -> None:
        """Run until cancelled. Raises MessagingError if messaging is lost for good.

        `report_running` is called when commands can be received.
        """
        try:
            await self._load()
            async with self._bus:
                await self._run_until_lost(report_running)
        finally:
            await uninterrupted(self._close())

    async def _close(self) -> None:
        await self._manager.save_progress()
        await self._store.close()

    async def _run_until_lost(self, report_running: Report) -> None:
        running = asyncio.ensure_future(self._run(report_running))
        lost = asyncio.ensure_future(self._bus.wait_lost())
        try:
            await asyncio.wait([running, lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await uninterrupted(_stop_both(lost, running))
        if not running.cancelled():
            running.result()
        reason = lost.result()
        log.critical("messaging is lost")
        raise reason

    async def _run(self, report_running: Report) -> None:
        async with TaskGroup() as group:
            group.create_task(self._outbox.run())
            group.create_task(self._registry.sync())
            group.create_task(self._manager.run())
            attempted, listening = asyncio.Event(), asyncio.Event()
            group.create_task(self._service.run(attempted.set, listening.set))
            group.create_task(_report_when(listening, report_running))
            await attempted.wait()  # a client may send commands when it receives the first status
            await self._status.run(self._handlers.status, self._manager.save_progress)

    async def _load(self) -> None:
        if damage := await self._store.damage():
            self._status.warn(damage, ErrorCode.INTERNAL_ERROR, self._on_damage_reported)
        await self._inbox.load()
        await self._registry.load()
        await self._bandwidth.load()
        await self._manager.load()

    def warn(self, message: str, code: ErrorCode) -> None:
        """Log a warning and publish it as a notice."""
        self._status.warn(message, code)

    async def _on_damage_reported(self) -> None:
        try:
            await self._store.clear_damage()
        except DownloaderError as error:
            log.warning("the damage is reported again after a restart: %s", error)

    def defer_update(self, deployment_id: str) -> float:
        """Return how many seconds to defer an update of components. 0 lets it begin."""
        return self._deferral.seconds(deployment_id)

    def reconfigure(self, configuration: Mapping[str, Any]) -> None:
        """Apply the live parameters of a changed configuration. Log which ones need a restart."""
        for sentence in settings.unknown(configuration):
            log.warning("%s", sentence)
        try:
            need_restart = self._live.update(configuration)
        except DownloaderError as error:
            self._status.warn(f"{error.message}; the previous value stays in force", error.code)
            return
        logs.configure(self._live().log_level)
        if need_restart:
            log.warning("a restart is needed for the change of %s", ", ".join(need_restart))
        self._bandwidth.follow_configuration()
        self._manager.schedule()
        self._status.reconfigured()


async def _stop_both(lost: asyncio.Task[Any], running: asyncio.Task[Any]) -> None:
    await stop(lost)
    await stop(running)


async def _report_when(listening: asyncio.Event, report_running: Report) -> None:
    await listening.wait()
    await report_running()
