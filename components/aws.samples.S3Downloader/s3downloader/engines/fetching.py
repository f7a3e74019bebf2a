"""One fetch by ranges: small files with one request each, large ones part by part."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

import msgspec

from ..aio import TaskGroup, stop, together, uninterrupted
from ..checksums import Expected, Mismatch
from ..clock import Clock
from ..errors import DownloaderError, ErrorCode, from_os_error
from ..records import FileRecord
from .base import OF_ONE_OBJECT, FetchJob
from .disk import Disk
from .keeper import Keeper
from .pace import Pace, Retries
from .parts import layout_of
from .staging import Staging
from .stores import WHOLE, BucketReader
from .transfer import Transfer, begin_or_continue
from .verification import Verifier, block_of, crc_for, empty_answer, label_of, mismatch_error

__all__ = ["Fetch"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_VOIDING = {ErrorCode.SOURCE_CHANGED, ErrorCode.CHECKSUM_MISMATCH, ErrorCode.OBJECT_NOT_FOUND}
"""Faults after which nothing that is there of a file is worth keeping."""


class Fetch:
    """One fetch: files are begun while there is room for requests, then fetched side by side."""

    def __init__(
        self,
        job: FetchJob,
        *,
        staging: Staging,
        disk: Disk,
        reader: BucketReader,
        verifier: Verifier,
        keeper: Keeper,
        clock: Clock,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._job = job
        self._staging = staging
        self._disk = disk
        self._reader = reader
        self._verifier = verifier
        self._keeper = keeper
        self._clock = clock
        self._threads = threads
        self._blocking: set[Future[Any]] = set()
        self._pace = Pace(job.options.numworkers, clock)
        self._working: asyncio.Task[None] | None = None
        self._fault: Exception | None = None

    async def run(self, files: AsyncIterable[FileRecord]) -> None:
        """Go through `files`; raise DownloaderError for the first that cannot be had."""
        self._working = asyncio.create_task(self._work(files))
        keeping = asyncio.create_task(self._guarded(self._keeper.keep()))
        try:
            await asyncio.wait([self._working])
        finally:
            await uninterrupted(self._end(self._working, keeping))
        if self._fault:
            raise self._fault

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            await stop(task)
        await self._wait_for_threads()
        await self._guarded(self._keeper.finish())

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
            if file.size <= WHOLE:
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
                await self._wait_for_threads()
                await uninterrupted(self._keeper.give_up(file))
            if error.code not in OF_ONE_OBJECT:
                raise
            log.warning("%s: %s", self._job.download_id, error)
            self._fault = self._fault or error

    # --- Files up to WHOLE: one request, in memory until they are whole ---------------------------

    async def _fetch_small(self, file: FileRecord) -> None:
        """Fetch a file with the slot that was taken for it."""
        try:
            label, mismatch = await self._bring(file)
            if mismatch:
                log.warning("%s: %s is fetched again: %s", *self._of(file), mismatch)
                self._keeper.dropped(file.size)
                label, mismatch = await self._bring(file)
            if mismatch:
                self._keeper.dropped(file.size)
                raise mismatch_error(self._job, file, mismatch)
        finally:
            self._pace.release()
        self._keeper.arrived(msgspec.structs.replace(file, checksum=label))

    async def _bring(self, file: FileRecord) -> tuple[str, Mismatch | None]:
        """Fetch and write a file; return by what it is verified, and what does not fit."""
        arrived, body = 0, bytearray()
        retries = Retries(self._job.options.retry_count, self._clock)
        expected: Expected | None = None
        mismatch: Mismatch | None = None

        def learn(headers: Mapping[str, str]) -> None:
            nonlocal expected
            expected = self._verifier.told(file, headers)

        def take(chunk: memoryview) -> None:
            nonlocal arrived, mismatch
            arrived += len(chunk)
            if arrived < file.size or body:
                body.extend(chunk)
            if arrived == file.size:
                mismatch = self._put(file, body or chunk, expected)

        while arrived < file.size:
            asks_all = None if arrived else learn
            await self._ask(file, (arrived, file.size), take, retries, learn=asks_all)
        if not file.size:
            mismatch = await self._in_thread(self._put, file, body, expected)
        self._keeper.received(file.size)
        if mismatch:
            path = self._staging.target(file.number)
            return await self._verifier.check_file(path, file, expected)
        return label_of(file, expected), None

    def _put(
        self, file: FileRecord, body: bytearray | memoryview, expected: Expected | None
    ) -> Mismatch | None:
        path = self._staging.target(file.number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            self._disk.write(descriptor, body, 0)
        finally:
            os.close(descriptor)
        return self._verifier.check_body(body, file, expected)

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
        self._keeper.arrived(msgspec.structs.replace(file, checksum=label), transfer)

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
        self._keeper.opened(transfer)
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

            def take(chunk: memoryview, index: int = index) -> None:
                transfer.write(index, chunk)
                self._keeper.written(len(chunk))

            while transfer.missing(index)[0] < transfer.missing(index)[1]:
                async with self._pace.slot():
                    await self._ask(transfer.file, transfer.missing(index), take, retries)

    async def _expected(self, file: FileRecord) -> Expected | None:
        """Ask for the checksum of a file, as often as for its bytes."""
        retries = Retries(self._job.options.retry_count, self._clock)
        while True:
            try:
                return await self._verifier.expected(file)
            except DownloaderError as error:
                await retries.after(error)

    # --- What both have in common ----------------------------------------------------------------

    async def _ask(
        self,
        file: FileRecord,
        span: tuple[int, int],
        take: Callable[[memoryview], None],
        retries: Retries,
        learn: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        """Make one request for a range. If it fails, return when it is time for the next."""

        is_empty = True

        def heed(chunk: memoryview) -> None:
            nonlocal is_empty
            is_empty = False
            retries.progress()
            take(chunk)

        try:
            first_byte = await self._reader.read(file.key, file.etag, span, heed, learn=learn)
            if is_empty:
                raise empty_answer(self._job, file)
        except DownloaderError as error:
            if error.code is ErrorCode.TIMEOUT:
                self._pace.ease()
            await retries.after(error)
        else:
            self._pace.served(first_byte)

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
