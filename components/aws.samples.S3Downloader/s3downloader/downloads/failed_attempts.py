"""Records failed attempts at files. Those that wait together share one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from ..core.aio import stop, uninterrupted
from ..core.errors import DownloaderError
from ..core.records import FailedAttempt
from ..store import Store

__all__ = ["FailedAttempts"]

log = logging.getLogger(__name__)


class FailedAttempts:
    """Failed attempts that wait to be recorded, at most one entry per file.

    They are information for the operator only. If they cannot be recorded, a warning is logged.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[int, FailedAttempt] = {}
        self._filled = asyncio.Event()

    def add(self, attempt: FailedAttempt) -> None:
        """Add an attempt. It is recorded soon within `recording`, otherwise by `flush`."""
        if before := self._waiting.get(attempt.number):
            attempt = msgspec.structs.replace(attempt, count=before.count + attempt.count)
        self._waiting[attempt.number] = attempt
        self._filled.set()

    async def flush(self) -> None:
        """Record the waiting attempts, before any change that is recorded after this call."""
        attempts, self._waiting = list(self._waiting.values()), {}
        self._filled.clear()
        if not attempts:
            return
        try:
            await self._store.mark_failed(attempts)
        except DownloaderError as error:
            log.warning("%d failed attempts could not be recorded: %s", len(attempts), error)

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Record attempts soon after they are added, and the rest when the context ends."""
        task = asyncio.create_task(self._record())
        try:
            yield
        finally:
            await stop(task)
            await uninterrupted(self.flush())

    async def _record(self) -> None:
        while True:
            await self._filled.wait()
            await self.flush()
