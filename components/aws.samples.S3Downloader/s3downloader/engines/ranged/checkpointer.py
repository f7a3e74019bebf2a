"""Brings what arrives to safety, in batches: data first, then what is known of it, then the word.

About every second, or 64 MiB, so that a loss of power costs no more than that.
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
    """The files of one fetch that are on their way, or have arrived but are not synced yet."""

    def __init__(
        self, staging: Staging, sink: Sink, clock: Clock, waiting: Mapping[int, int]
    ) -> None:
        """`waiting` are the bytes that are here of files that are not open yet, by number."""
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

    def opened(self, transfer: Transfer) -> None:
        """A file is on its way from now on."""
        self._waiting.pop(transfer.file.number, None)
        self._transfers[transfer.file.number] = transfer

    def arrived(self, file: FileRecord, transfer: Transfer | None = None) -> None:
        """A file is whole and verified; one without a transfer lies where files arrive."""
        self._arrived.append((file, transfer))

    def received(self, size: int) -> None:
        """So many bytes of a file without a transfer have come."""
        self._unsynced += size
        self._small_bytes += size
        if self._unsynced >= _SAVE_BYTES:
            self._much_unsynced.set()

    def written(self, size: int) -> None:
        """So many bytes of a file with a transfer have been written; for any thread."""
        self._unsynced += size  # threads may miss each other here: it need not be exact
        if self._unsynced >= _SAVE_BYTES:
            self._loop.call_soon_threadsafe(self._much_unsynced.set)

    def dropped(self, size: int) -> None:
        """So many bytes of a small file were of no use."""
        self._small_bytes -= size

    async def give_up(self, file: FileRecord) -> None:
        """Keep nothing of a file."""
        self._waiting.pop(file.number, None)
        if transfer := self._transfers.pop(file.number, None):
            transfer.close()
        await asyncio.to_thread(self._staging.forget, file.number)
        self._staging.target(file.number).unlink(missing_ok=True)

    async def run(self) -> None:
        """Report progress and bring what arrived to safety, until cancelled."""
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
        """Bring everything to safety and let go of it; nothing may be written any more."""
        try:
            await self._save()
            self._report()
        finally:
            for transfer in self._transfers.values():
                transfer.close()

    async def _save(self) -> None:
        """Sync what is on its way, then move, sync and report what arrived."""
        arrived, self._arrived = self._arrived, []
        self._unsynced = 0
        on_their_way = {t for t in self._transfers.values() if t.bytes_unsynced}
        for transfer in on_their_way - {transfer for _, transfer in arrived}:
            await asyncio.to_thread(transfer.sync)
        if arrived:
            await self._report_arrived(arrived)

    async def _report_arrived(self, arrived: list[tuple[FileRecord, Transfer | None]]) -> None:
        whole = await asyncio.to_thread(self._move_to_staging, arrived)
        self._report()
        for file, _ in arrived:
            if not self._transfers.pop(file.number, None):
                self._small_bytes -= file.size
        await self._sink.finished(whole)
        await asyncio.to_thread(self._staging.forget, *(f.number for f, t in arrived if t))
        if len(whole) < len(arrived):
            raise vanished()

    def _move_to_staging(
        self, arrived: list[tuple[FileRecord, Transfer | None]]
    ) -> list[FileRecord]:
        for file, transfer in arrived:
            if transfer:
                transfer.finish()
                self._staging.mark_arrived(file.number)
        return self._staging.move_arrived([file for file, _ in arrived]).whole

    def _report(self) -> None:
        open_ = sum(transfer.bytes_done for transfer in self._transfers.values())
        self._sink.progress(self._small_bytes + open_ + sum(self._waiting.values()))
