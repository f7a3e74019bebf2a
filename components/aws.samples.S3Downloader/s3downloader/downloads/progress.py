"""Receives an engine's reports on one download."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..core.errors import ErrorCode
from ..core.records import FailedAttempt, FileRecord
from ..store import Store
from .active_download import ActiveDownload
from .failed_attempts import FailedAttempts
from .state_machine import StateMachine

__all__ = ["ProgressSink"]


class ProgressSink:
    """Updates the meter, the database and the record from what an engine reports."""

    def __init__(self, active: ActiveDownload, store: Store, state_machine: StateMachine) -> None:
        self._active = active
        self._store = store
        self._state_machine = state_machine
        self._failed = FailedAttempts(store)
        self._fetch_begins = False

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        """Record failed attempts while the context is open.

        The first report of progress has the bytes of earlier fetches. So the rate is measured from
        that report on.
        """
        self._fetch_begins = True
        async with self._failed.recording():
            yield

    def progress(self, in_flight: int) -> None:
        """Set the bytes of unfinished files that are on disk."""
        self._active.meter.progress(in_flight)
        if self._fetch_begins:
            self._fetch_begins = False
            self._active.meter.restart_rate()

    async def finished(self, files: list[FileRecord]) -> None:
        """Record files that are complete and synced."""
        await self._failed.flush()  # later, it would record an error after it was cleared
        await self._store.mark_done(files)
        self._active.meter.add_finished(sum(file.size for file in files))
        self._active.failures_in_a_row = 0
        self._state_machine.files_done(self._active, len(files))

    def failed(
        self, file: FileRecord, code: ErrorCode, message: str, *, next_attempt: float | None = None
    ) -> None:
        """Queue a failed attempt to be recorded. `next_attempt` as in FailedAttempt."""
        self._failed.add(FailedAttempt(file.number, code, message, next_attempt))
