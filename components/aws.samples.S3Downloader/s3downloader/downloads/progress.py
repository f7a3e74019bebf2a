"""Takes an engine's reports of one download."""

from __future__ import annotations

from ..core.records import FileRecord
from ..store import Store
from .active_download import ActiveDownload
from .state_machine import StateMachine

__all__ = ["ProgressSink"]


class ProgressSink:
    """Brings the meter, the store and the record up to date with what an engine reports."""

    def __init__(self, active: ActiveDownload, store: Store, state_machine: StateMachine) -> None:
        self._active = active
        self._store = store
        self._state_machine = state_machine
        self._fetch_begins = False

    def begin_fetch(self) -> None:
        """Leave what the next report tells of earlier fetches out of the rate."""
        self._fetch_begins = True

    def progress(self, in_flight: int) -> None:
        """Take an engine's report of bytes that belong to no finished file yet."""
        self._active.meter.progress(in_flight)
        if self._fetch_begins:
            self._fetch_begins = False
            self._active.meter.forget_rate()

    async def finished(self, files: list[FileRecord]) -> None:
        """Take an engine's report of files that are whole and synced."""
        await self._store.mark_done(files)
        self._active.meter.settle(sum(file.size for file in files))
        self._active.failures_in_a_row = 0
        self._state_machine.files_done(self._active, len(files))
