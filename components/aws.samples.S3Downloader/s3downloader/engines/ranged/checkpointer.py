"""Syncs what has arrived, in batches: first the data, then the journal, then the database.

This happens about every second, or every 64 MiB. A loss of power costs at most one batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ...core.aio import first_of, uninterrupted
from ...core.clock import Clock
from ...core.records import FileRecord
from ..base import Sink
from ..staging import Staging, vanished
from .transfer import Transfer

__all__ = ["Checkpointer"]

_TICK = 0.5
_SAVE_INTERVAL = 1.0
_SAVE_BYTES = 64 << 20


class Checkpointer:
    """Syncs and reports the files of one fetch: those in transit, and complete ones.

    A large file has a Transfer. A small one has none: it is written to disk when it is complete.
    Methods without `async` do not block.
    """

    def __init__(
        self, staging: Staging, sink: Sink, clock: Clock, waiting: Mapping[int, int]
    ) -> None:
        """`waiting` are the bytes on disk of files whose transfers are not open yet, by number."""
        self._staging = staging
        self._sink = sink
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting = dict(waiting)
        self._transfers: dict[int, Transfer] = {}
        self._small_bytes = 0
        self._unsynced = 0
        self._much_unsynced = asyncio.Event()
        self._arrived: list[tuple[FileRecord, Transfer | None]] = []

    def on_opened(self, transfer: Transfer) -> None:
        """Record that the transfer of a large file has been opened."""
        self._waiting.pop(transfer.file.number, None)
        self._transfers[transfer.file.number] = transfer

    def on_complete(self, file: FileRecord, transfer: Transfer | None = None) -> None:
        """Record that a file is complete and verified.

        A file without a transfer is at `Staging.target`.
        """
        self._arrived.append((file, transfer))

    def on_received(self, size: int) -> None:
        """Record that `size` bytes of a small file have been written."""
        self._unsynced += size
        self._small_bytes += size
        if self._unsynced >= _SAVE_BYTES:
            self._much_unsynced.set()

    def on_written(self, size: int) -> None:
        """Record that `size` bytes of a large file have been written. For any thread."""
        self._unsynced += size  # not atomic; the sum need not be exact
        if self._unsynced >= _SAVE_BYTES:
            self._loop.call_soon_threadsafe(self._much_unsynced.set)

    def on_discarded(self, size: int) -> None:
        """Record that `size` bytes of a small file, recorded by `on_received`, were discarded."""
        self._small_bytes -= size

    async def delete(self, file: FileRecord) -> None:
        """Delete all that is on disk of a file."""
        self._waiting.pop(file.number, None)
        if transfer := self._transfers.pop(file.number, None):
            transfer.close()
        await asyncio.to_thread(self._staging.delete_partial, file.number)
        self._staging.target(file.number).unlink(missing_ok=True)

    async def run(self) -> None:
        """Report progress, and sync in batches, until cancelled."""
        self._report()
        saved = self._clock.monotonic()
        while True:
            await first_of(self._clock.sleep(_TICK), self._much_unsynced.wait())
            self._report()
            if self._much_unsynced.is_set() or self._clock.monotonic() - saved >= _SAVE_INTERVAL:
                self._much_unsynced.clear()
                await uninterrupted(self._save())
                saved = self._clock.monotonic()

    async def finish(self) -> None:
        """Sync everything and close all transfers. Nothing may be written after this."""
        try:
            await self._save()
            self._report()
        finally:
            for transfer in self._transfers.values():
                transfer.close()

    async def _save(self) -> None:
        """Sync files in transit, then move, sync and report complete files.

        Raises Vanished if complete files have been removed.
        """
        arrived, self._arrived = self._arrived, []
        self._unsynced = 0
        unsynced = {t for t in self._transfers.values() if t.bytes_unsynced}
        for transfer in unsynced - {transfer for _, transfer in arrived}:
            await asyncio.to_thread(transfer.sync)
        if arrived:
            await self._report_arrived(arrived)

    async def _report_arrived(self, arrived: list[tuple[FileRecord, Transfer | None]]) -> None:
        complete = await asyncio.to_thread(self._move_to_staging, arrived)
        self._report()
        for file, _ in arrived:
            if not self._transfers.pop(file.number, None):
                self._small_bytes -= file.size
        await self._sink.finished(complete)
        await asyncio.to_thread(self._staging.delete_partial, *(f.number for f, t in arrived if t))
        if len(complete) < len(arrived):
            raise vanished()

    def _move_to_staging(
        self, arrived: list[tuple[FileRecord, Transfer | None]]
    ) -> list[FileRecord]:
        for file, transfer in arrived:
            if transfer:
                transfer.finish()
                self._staging.mark_arrived(file.number)
        return self._staging.move_arrived([file for file, _ in arrived]).complete

    def _report(self) -> None:
        open_ = sum(transfer.bytes_done for transfer in self._transfers.values())
        self._sink.progress(self._small_bytes + open_ + sum(self._waiting.values()))
