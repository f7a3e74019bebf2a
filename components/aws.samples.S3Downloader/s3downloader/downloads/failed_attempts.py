"""Records attempts at files that failed, those that come together in one transaction."""

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
    """Failed attempts on their way into the store, at most one record a file.

    They are for an operator to read: where the store cannot be written, the log alone tells them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[int, FailedAttempt] = {}
        self._filled = asyncio.Event()

    def add(self, attempt: FailedAttempt) -> None:
        """Take an attempt, to be recorded soon while `recording`, else by `flush`."""
        if before := self._waiting.get(attempt.number):
            attempt = msgspec.structs.replace(attempt, count=before.count + attempt.count)
        self._waiting[attempt.number] = attempt
        self._filled.set()

    async def flush(self) -> None:
        """Record what waits; it is in the store before whatever is recorded after the call."""
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
        """Record what is added meanwhile, and at the end what is left."""
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
