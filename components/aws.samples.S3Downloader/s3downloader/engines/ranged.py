"""The engine that goes on inside a file: ranges of objects, pinned, journaled and verified.

Memory: at most `BUFFERS` (32 MiB) for chunks, whatever the size of the objects, since a request
holds two chunks of at most `BUFFERS / (2 x requests in flight)` each; beside it, what obstore's
connections read ahead, about 0.4 MiB each; 56 bytes for each part of the files that are under way;
and a record of a few hundred bytes for each small file that waits to be synced.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

import msgspec

from ..aio import TaskGroup, first_of, stop, together, uninterrupted
from ..checksums import Expected, Mismatch
from ..clock import Clock
from ..credentials import Credentials
from ..errors import DownloaderError, ErrorCode, from_os_error
from ..records import FileRecord
from .base import OF_ONE_OBJECT, FetchJob, Sink
from .disk import Disk
from .journal import Journal
from .pace import BUFFERS, REQUESTS, Pace, Retries
from .parts import layout_of
from .staging import Staging
from .stores import BucketReader
from .transfer import Transfer, begin_or_continue
from .verification import Heads, Verifier, block_of, crc_for, label_of, mismatch_error

__all__ = ["RangedEngine"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_SMALL = BUFFERS // REQUESTS
"""Up to this size a file is fetched with one request and kept in memory until it is whole."""

_THREADS = 2
_TICK = 0.5
_SAVE_INTERVAL = 1.0
_SAVE_BYTES = 64 << 20
_NAME = "ranged"
_VOIDING = {ErrorCode.SOURCE_CHANGED, ErrorCode.CHECKSUM_MISMATCH, ErrorCode.OBJECT_NOT_FOUND}
"""Faults after which nothing that is there of a file is worth keeping."""


class RangedEngine:
    """Fetches ranges with obstore. What has arrived is kept through pause, kill and power loss.

    A request that brings no byte for `stall_timeout` seconds is dropped and made again.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        credentials: Credentials,
        heads: Heads,
        clock: Clock,
        disk: Disk | None = None,
        stall_timeout: float = 30.0,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        self._heads = heads
        self._clock = clock
        self._disk = disk or Disk()
        self._stall_timeout = stall_timeout
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ranged")

    async def fetch(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        """Fetch and verify every file, or raise DownloaderError for the first that cannot be had.

        What is on its way when it is cancelled or raises is kept, and continued by the next fetch.
        """
        staging = self._staging(job)
        await asyncio.to_thread(staging.make)
        await self._forget_all_but(staging, files)
        reader = BucketReader(
            job.bucket,
            endpoint_url=self._endpoint_url,
            accelerate=job.options.s3_transfer_acceleration,
            credentials=self._credentials,
            patience=self._stall_timeout,
        )
        fetch = _Fetch(
            job,
            staging=staging,
            disk=self._disk,
            reader=reader,
            verifier=Verifier(job, self._heads),
            sink=sink,
            clock=self._clock,
            threads=self._threads,
        )
        await fetch.run(files)

    async def recover(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        """Report those of `files` that an earlier fetch left whole; keep what can be continued.

        A file that arrived but was not brought to safety when the power failed is continued from
        what its journal knows.
        """
        staging = self._staging(job)
        continued = await asyncio.to_thread(staging.continued)
        if continued:
            async for file in files:
                if file.number in continued:
                    await asyncio.to_thread(self._reclaim, staging, file)
        left = await asyncio.to_thread(staging.leftovers)
        if not left:
            return
        found = [
            file
            async for file in files
            if file.number in left
            and file.number not in continued
            and left[file.number] in (None, file.etag)
        ]
        if whole := await asyncio.to_thread(staging.take, found):
            sink.progress(sum(file.size for file in whole))
            await sink.finished(whole)

    def _staging(self, job: FetchJob) -> Staging:
        return Staging(job.staging, _NAME, self._disk)

    def _reclaim(self, staging: Staging, file: FileRecord) -> None:
        found = Journal.open(staging.partial(file.number)[1], self._disk)
        if found:
            staging.reclaim(file, found[0].head.inode)
            found[0].close()

    async def _forget_all_but(self, staging: Staging, files: AsyncIterable[FileRecord]) -> None:
        """Remove what belongs to files that are not planned any more."""
        continued = await asyncio.to_thread(staging.continued)
        if continued:
            async for file in files:
                continued.discard(file.number)
        await asyncio.to_thread(staging.forget, *continued)


class _Fetch:
    """One fetch: files are begun while there is room for requests, then fetched side by side."""

    def __init__(
        self,
        job: FetchJob,
        *,
        staging: Staging,
        disk: Disk,
        reader: BucketReader,
        verifier: Verifier,
        sink: Sink,
        clock: Clock,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._job = job
        self._staging = staging
        self._disk = disk
        self._reader = reader
        self._verifier = verifier
        self._sink = sink
        self._clock = clock
        self._threads = threads
        self._blocking: set[Future[Any]] = set()
        self._pace = Pace(job.options.numworkers, clock)
        self._transfers: dict[int, Transfer] = {}
        self._small_bytes = 0
        self._unsynced = 0
        self._much_unsynced = asyncio.Event()
        self._arrived: list[tuple[FileRecord, Transfer | None]] = []
        self._working: asyncio.Task[None] | None = None
        self._fault: Exception | None = None

    async def run(self, files: AsyncIterable[FileRecord]) -> None:
        self._working = asyncio.create_task(self._work(files))
        keeping = asyncio.create_task(self._guarded(self._keep()))
        try:
            await asyncio.wait([self._working])
        finally:
            await stop(self._working)
            await stop(keeping)
            await uninterrupted(self._guarded(self._finish()))
        if self._fault:
            raise self._fault

    def _fail(self, error: Exception) -> None:
        """Remember what went wrong first, and let it end everything."""
        self._fault = self._fault or error
        if self._working:
            self._working.cancel()

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except OSError as error:
            self._fail(from_os_error(error))
        except Exception as error:
            self._fail(error)

    async def _work(self, files: AsyncIterable[FileRecord]) -> None:
        async with TaskGroup() as group:
            await self._guarded(self._feed(group, files))

    async def _feed(self, group: TaskGroup, files: AsyncIterable[FileRecord]) -> None:
        """Begin one file after the other, as long as those before leave room for a request."""
        async for file in files:
            await self._pace.vacancy()
            if file.size <= _SMALL:
                self._pace.take()
                group.create_task(self._guarded(self._attempt(file, self._fetch_small(file))))
            else:
                asks = asyncio.Event()
                work = self._attempt(file, self._fetch_large(file, asks))
                task = group.create_task(self._guarded(work))
                task.add_done_callback(lambda _, asks=asks: asks.set())  # type: ignore[misc]
                await asks.wait()

    async def _attempt(self, file: FileRecord, work: Coroutine[None, None, None]) -> None:
        """Fetch a file; a fault of its object alone waits until the other files are through."""
        try:
            await work
        except DownloaderError as error:
            if error.code in _VOIDING:
                await uninterrupted(self._give_up(file))
            if error.code not in OF_ONE_OBJECT:
                raise
            log.warning("%s: %s", self._job.download_id, error)
            self._fault = self._fault or error

    async def _give_up(self, file: FileRecord) -> None:
        """Keep nothing of a file."""
        if transfer := self._transfers.pop(file.number, None):
            await self._wait_for_threads()
            transfer.close()
        await asyncio.to_thread(self._staging.forget, file.number)
        self._staging.target(file.number).unlink(missing_ok=True)

    # --- Small files: one request, in memory until they are whole --------------------------------

    async def _fetch_small(self, file: FileRecord) -> None:
        """Fetch a file with the slot that was taken for it."""
        try:
            expected = await self._expected(file)
            mismatch = await self._bring(file, expected)
            label = label_of(file, expected)
            if mismatch:
                path = self._staging.target(file.number)
                label, mismatch = await self._verifier.check_file(path, file, expected)
            if mismatch:
                log.warning("%s: %s is fetched again: %s", *self._of(file), mismatch)
                mismatch = await self._bring(file, expected)
            if mismatch:
                raise mismatch_error(self._job, file, mismatch)
        finally:
            self._pace.release()
        self._arrived.append((msgspec.structs.replace(file, checksum=label), None))

    async def _bring(self, file: FileRecord, expected: Expected | None) -> Mismatch | None:
        """Fetch and write a file, and tell what does not fit."""
        body = bytearray()
        retries = Retries(self._job.options.retry_count, self._clock)

        async def take(data: bytes) -> None:
            retries.progress()
            body.extend(data)
            self._small_bytes += len(data)
            await self._job.share.take(len(data))

        while len(body) < file.size:
            await self._ask(file, (len(body), file.size), take, retries)
        mismatch = await self._in_thread(self._put, file, body, expected)
        if mismatch:
            self._small_bytes -= file.size
        self._count_unsynced(file.size)
        return mismatch

    def _put(self, file: FileRecord, body: bytearray, expected: Expected | None) -> Mismatch | None:
        path = self._staging.target(file.number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            self._disk.write(descriptor, body, 0)
        finally:
            os.close(descriptor)
        return self._verifier.read(path, file, expected)

    # --- Large files: parts, journaled -----------------------------------------------------------

    async def _fetch_large(self, file: FileRecord, asks: asyncio.Event) -> None:
        """Fetch a file part by part; `asks` is set once its requests stand in line."""
        expected = await self._expected(file)
        transfer = await uninterrupted(self._open(file, expected))
        await self._fetch_parts(transfer, asks)
        label, mismatch = await self._verifier.check_transfer(transfer, expected)
        if mismatch:
            again = await self._in_thread(transfer.mend, mismatch)
            log.warning("%s: %s: %s; %d bytes are fetched again", *self._of(file), mismatch, again)
            await self._fetch_parts(transfer, asks)
            label, mismatch = await self._verifier.check_transfer(transfer, expected)
        if mismatch:
            raise mismatch_error(self._job, file, mismatch)
        self._arrived.append((msgspec.structs.replace(file, checksum=label), transfer))

    async def _open(self, file: FileRecord, expected: Expected | None) -> Transfer:
        path, journal = self._staging.partial(file.number)
        layout = layout_of(
            file.size,
            part_size=self._job.options.part_size,
            block=block_of(expected, file.size),
        )
        transfer = await self._in_thread(
            partial(
                begin_or_continue,
                file,
                path,
                journal,
                layout=layout,
                crc=crc_for(expected),
                disk=self._disk,
            )
        )
        self._transfers[file.number] = transfer
        return transfer

    async def _fetch_parts(self, transfer: Transfer, asks: asyncio.Event) -> None:
        """Fetch what is missing of a file, over as many connections as it may have."""
        count = min(self._job.options.concurrency, transfer.parts_waiting)
        connections = [self._fetch_some(transfer) for _ in range(count)]
        if connections:
            asyncio.get_running_loop().call_soon(asks.set)
            await together(*connections)

    async def _fetch_some(self, transfer: Transfer) -> None:
        """Fetch parts of a file, one after the other, until none is left."""
        retries = Retries(self._job.options.retry_count, self._clock)
        while (index := transfer.claim()) is not None:
            take = partial(self._take, transfer, index, retries)
            while transfer.missing(index)[0] < transfer.missing(index)[1]:
                async with self._pace.slot():
                    await self._ask(transfer.file, transfer.missing(index), take, retries)

    async def _take(self, transfer: Transfer, index: int, retries: Retries, data: bytes) -> None:
        """Take a chunk of a part."""
        retries.progress()
        await self._in_thread(transfer.write, index, data)
        self._count_unsynced(len(data))
        await self._job.share.take(len(data))

    # --- What both have in common ----------------------------------------------------------------

    async def _expected(self, file: FileRecord) -> Expected | None:
        """Ask for the checksum of a file, as often as for its bytes."""
        retries = Retries(self._job.options.retry_count, self._clock)
        while True:
            try:
                return await self._verifier.expected(file)
            except DownloaderError as error:
                await retries.after(error)

    async def _ask(
        self,
        file: FileRecord,
        span: tuple[int, int],
        take: Callable[[bytes], Awaitable[None]],
        retries: Retries,
    ) -> None:
        """Make one request for a range. If it fails, return when it is time for the next."""
        began = self._clock.monotonic()
        try:
            first_byte = await self._reader.read(file.key, file.etag, span, self._pace.chunk, take)
        except DownloaderError as error:
            if error.code is ErrorCode.TIMEOUT:
                self._pace.ease()
            await retries.after(error)
        else:
            seconds = self._clock.monotonic() - began
            size = span[1] - span[0]
            self._pace.served(first_byte=first_byte, size=size, seconds=seconds)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks on the disk. Once it has begun it ends, whoever is cancelled."""
        future = self._threads.submit(function, *arguments)
        self._blocking.add(future)
        future.add_done_callback(self._blocking.discard)
        return await asyncio.wrap_future(future)

    async def _wait_for_threads(self) -> None:
        await asyncio.to_thread(wait, list(self._blocking))

    def _of(self, file: FileRecord) -> tuple[str, str]:
        return self._job.download_id, file.key

    # --- Bringing to safety ----------------------------------------------------------------------

    def _count_unsynced(self, size: int) -> None:
        self._unsynced += size
        if self._unsynced >= _SAVE_BYTES:
            self._much_unsynced.set()

    async def _keep(self) -> None:
        """Report progress, and bring what arrived to safety, about every second or 64 MiB."""
        saved = self._clock.monotonic()
        while True:
            await first_of(self._clock.sleep(_TICK), self._much_unsynced.wait())
            self._report()
            if self._much_unsynced.is_set() or self._clock.monotonic() - saved >= _SAVE_INTERVAL:
                self._much_unsynced.clear()
                await uninterrupted(self._save())
                saved = self._clock.monotonic()

    async def _save(self) -> None:
        """Sync what is on its way, then move, sync and report what arrived."""
        arrived, self._arrived = self._arrived, []
        self._unsynced = 0
        on_its_way = {t for t in self._transfers.values() if t.bytes_unsynced}
        for transfer in on_its_way - {transfer for _, transfer in arrived}:
            await asyncio.to_thread(transfer.sync)
        if not arrived:
            return
        whole = await asyncio.to_thread(self._bring_home, arrived)
        self._report()
        for file, _ in arrived:
            if not self._transfers.pop(file.number, None):
                self._small_bytes -= file.size
        await self._sink.finished(whole)
        await asyncio.to_thread(self._staging.forget, *(f.number for f, t in arrived if t))
        if len(whole) < len(arrived):
            raise DownloaderError(
                ErrorCode.SIZE_MISMATCH, "files vanished from the staging folder; resume"
            )

    def _bring_home(self, arrived: list[tuple[FileRecord, Transfer | None]]) -> list[FileRecord]:
        for file, transfer in arrived:
            if transfer:
                transfer.close()
                self._staging.arrive(file.number)
        return self._staging.take([file for file, _ in arrived])

    async def _finish(self) -> None:
        """Bring everything to safety and let go of it; nothing is written any more."""
        await self._wait_for_threads()
        try:
            await self._save()
        finally:
            for transfer in self._transfers.values():
                transfer.close()

    def _report(self) -> None:
        there = sum(transfer.bytes_done for transfer in self._transfers.values())
        self._sink.progress(self._small_bytes + there)
