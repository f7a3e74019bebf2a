"""One fetch by ranges: small files with one request each, large ones part by part."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

import msgspec

from ...core.aio import TaskGroup, run_all, stop, uninterrupted
from ...core.checksums import Expected, Mismatch
from ...core.clock import Clock
from ...core.errors import DownloaderError, ErrorCode, from_os_error
from ...core.records import FileRecord
from ...core.request_timeouts import LEAST_BYTES
from ..base import OF_ONE_OBJECT, FetchJob, Sink
from ..disk import Disk
from ..faults import Faults
from ..staging import Staging
from ..verification import Verifier, block_of, crc_for, label_of, mismatch_error
from .checkpointer import Checkpointer
from .concurrency import ConcurrencyLimiter, Retries
from .parts import PartState, layout_of
from .pins import Pins
from .range_reader import SourceReader
from .range_request import SMALL_OBJECT_BYTES, ResponseHandler
from .range_response import RangesIgnoredError
from .server_features import ServerFeatures
from .small_file import SmallFile
from .transfer import Transfer, begin_or_continue

__all__ = ["Fetch"]

log = logging.getLogger(__name__)
T = TypeVar("T")

_FetchFile = Callable[[FileRecord, FileRecord], Awaitable[None]]
"""Fetches a file, which comes first as it is listed, then with its object's own validator."""

_MOST_WHOLE = 2
"""How often a file that cannot be continued comes over the wire."""

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
        reader: SourceReader,
        verifier: Verifier,
        checkpointer: Checkpointer,
        sink: Sink,
        clock: Clock,
        threads: ThreadPoolExecutor,
        features: ServerFeatures,
        own_validators: Mapping[int, str],
    ) -> None:
        """`own_validators` are those that differ from the listing, by the numbers of files."""
        self._job = job
        self._staging = staging
        self._disk = disk
        self._reader = reader
        self._verifier = verifier
        self._checkpointer = checkpointer
        self._sink = sink
        self._clock = clock
        self._threads = threads
        self._features = features
        self._pins = Pins(job, verifier, features, self._retries, own_validators)
        self._blocking: set[Future[Any]] = set()
        self._limiter = ConcurrencyLimiter(job.options.numworkers, clock)
        self._working: asyncio.Task[None] | None = None
        self._faults = Faults()

    async def run(self, files: AsyncIterable[FileRecord]) -> None:
        """Go through `files`; raise DownloaderError for the first that cannot be had."""
        self._working = asyncio.create_task(self._guarded(self._work(files)))
        checkpointing = asyncio.create_task(self._guarded(self._checkpointer.run()))
        try:
            await asyncio.wait([self._working])
        finally:
            await uninterrupted(self._end(self._working, checkpointing))
        if fault := self._faults.decisive:
            raise fault

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            await stop(task)
        await self._wait_for_threads()
        await self._guarded(self._checkpointer.finish())

    def _fail(self, error: Exception) -> None:
        """Let `error` end the fetch."""
        self._faults.ending(error)
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
            await self._limiter.wait_for_slot()
            if file.size <= SMALL_OBJECT_BYTES:
                self._limiter.acquire()
                group.create_task(self._guarded(self._attempt_small(file)))
            else:
                queued = asyncio.Event()
                work = self._attempt(file, partial(self._fetch_large, queued=queued))
                task = group.create_task(self._guarded(work))
                task.add_done_callback(lambda _, queued=queued: queued.set())  # type: ignore[misc]
                await queued.wait()

    async def _attempt(self, file: FileRecord, fetch: _FetchFile) -> None:
        """Fetch a file; a fault of its object alone waits until the other files are through."""
        try:
            await self._fetch_pinned(file, fetch)
            self._features.broken.pop(self._name(file), None)
        except DownloaderError as error:
            if error.code in _VOIDING:
                await self._give_up(file)
            self._sink.failed(file, error.code, error.message)
            if error.code not in OF_ONE_OBJECT:
                raise
            log.warning("%s: %s", self._job.download_id, error)
            self._faults.of_object(error)

    async def _fetch_pinned(self, file: FileRecord, fetch: _FetchFile) -> None:
        """Fetch a file by the validator that its listing tells, or else by its object's own."""
        pinned = await self._pins.of(file)
        try:
            await fetch(file, pinned)
            self._pins.confirm(file, pinned)
        except DownloaderError as error:
            if error.code is not ErrorCode.SOURCE_CHANGED:
                raise
            fallback = await self._pins.fallback(file, pinned)
            if fallback is None:
                raise
            await self._give_up(file)
            await fetch(file, fallback)

    def _can_continue(self, pinned: FileRecord) -> bool:
        """Whether a request for a file that breaks off can be followed by one for the rest."""
        return bool(pinned.validator) and not self._features.ranges.is_ignored

    def _count_restart(self, file: FileRecord) -> None:
        """Let a file that cannot be continued be fetched anew, once."""
        self._features.broken[self._name(file)] += 1
        if self._features.broken[self._name(file)] < _MOST_WHOLE:
            return
        del self._features.broken[self._name(file)]
        raise DownloaderError(
            ErrorCode.ENGINE_FAILED,
            f"{self._job.source.uri_of(file.name)} broke off twice, and cannot be continued: its"
            " store does not heed Range, or tells neither ETag nor date; resume to fetch it anew",
        )

    # --- Small files: one request, in memory until they are whole --------------------------------

    async def _attempt_small(self, file: FileRecord) -> None:
        """Fetch a file with the slot that was taken for it."""
        try:
            await self._attempt(file, self._fetch_small)
        finally:
            self._limiter.release()

    async def _fetch_small(self, file: FileRecord, pinned: FileRecord) -> None:
        label, mismatch = await self._download_small(pinned)
        if mismatch:
            log.warning("%s: %s is fetched again: %s", *self._of(file), mismatch)
            self._mismatched(file, mismatch)
            self._checkpointer.dropped(file.size)
            label, mismatch = await self._download_small(pinned)
        if mismatch:
            self._checkpointer.dropped(file.size)
            raise mismatch_error(self._job, file, mismatch)
        await self._pins.check_unchanged(file, pinned)
        self._checkpointer.arrived(msgspec.structs.replace(file, checksum=label))

    async def _download_small(self, file: FileRecord) -> tuple[str, Mismatch | None]:
        """Fetch and write a file; return by what it is verified, and what does not fit."""
        path = self._staging.target(file.number)
        small = SmallFile(file, path, self._disk, self._verifier)
        retries = self._retries(file)
        is_here = False
        while not is_here:
            if small.arrived and not self._can_continue(file):
                self._count_restart(file)
                small.drop()
            try:
                is_here = await self._ask(file, small.missing, small.handler(), retries)
            except RangesIgnoredError:
                if not small.arrived:  # all of it was asked for
                    raise
        if not file.size:
            await self._in_thread(small.put_empty)
        self._checkpointer.received(file.size)
        if small.mismatch:
            return await self._verifier.check_file(path, file, small.expected)
        return label_of(file, small.expected), None

    # --- Large files: parts, journaled -----------------------------------------------------------

    async def _fetch_large(
        self, file: FileRecord, pinned: FileRecord, *, queued: asyncio.Event
    ) -> None:
        """Fetch a file part by part; `queued` is set once its requests stand in line."""
        retries = self._retries(file)
        expected = await retries.until_answered(lambda: self._verifier.expected(pinned))
        transfer = await uninterrupted(self._open(pinned, file.validator, expected))
        await self._fetch_missing(transfer, queued)
        label, mismatch = await self._verifier.check_transfer(transfer, expected)
        if mismatch:
            again = await self._in_thread(transfer.reset_damaged, mismatch)
            log.warning("%s: %s: %s; %d bytes are fetched again", *self._of(file), mismatch, again)
            self._mismatched(file, mismatch)
            if not self._can_continue(pinned):
                self._count_restart(file)
            await self._fetch_missing(transfer, queued)
            label, mismatch = await self._verifier.check_transfer(transfer, expected)
        if mismatch:
            raise mismatch_error(self._job, file, mismatch)
        await self._pins.check_unchanged(file, pinned)
        self._checkpointer.arrived(msgspec.structs.replace(file, checksum=label), transfer)

    async def _open(self, file: FileRecord, listed: str, expected: Expected | None) -> Transfer:
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
                listed=listed,
                layout=layout,
                crc=crc_for(expected),
                disk=self._disk,
            )
        )
        self._checkpointer.opened(transfer)
        return transfer

    async def _fetch_missing(self, transfer: Transfer, queued: asyncio.Event) -> None:
        """Fetch what is missing of a file: by ranges, or else all of it with one request."""
        if self._can_continue(transfer.file):
            with contextlib.suppress(RangesIgnoredError):  # which is heeded from now on
                await self._fetch_parts(transfer, queued)
                return
        await self._fetch_whole(transfer, queued)

    async def _fetch_whole(self, transfer: Transfer, queued: asyncio.Event) -> None:
        """Fetch a file from its first byte to its last over one connection.

        What is there already is passed over, or given up where nothing tells that it is of the
        same object.
        """
        file = transfer.file
        retries = self._retries(file)
        asyncio.get_running_loop().call_soon(queued.set)
        nothing = dict.fromkeys(transfer.states(), PartState())
        offset = 0

        def on_chunk(chunk: memoryview) -> None:
            nonlocal offset
            transfer.write_through(offset, chunk)
            offset += len(chunk)
            self._checkpointer.written(len(chunk))

        while not transfer.is_complete:
            if offset:
                self._count_restart(file)
                offset = 0
            if not file.validator and transfer.bytes_done:
                await self._in_thread(transfer.rewind, nothing)
            handler = ResponseHandler(on_chunk, partial(transfer.rewind, transfer.states()))
            async with self._limiter.slot():
                await self._ask(file, None, handler, retries)

    async def _fetch_parts(self, transfer: Transfer, queued: asyncio.Event) -> None:
        """Fetch what is missing of a file, over as many connections as it may have."""
        count = min(self._job.options.concurrency, transfer.parts_waiting)
        connections = [self._fetch_some(transfer) for _ in range(count)]
        if connections:
            asyncio.get_running_loop().call_soon(queued.set)
            await run_all(*connections)

    async def _fetch_some(self, transfer: Transfer) -> None:
        """Fetch parts of a file, one after the other, until none is left."""
        retries = self._retries(transfer.file)
        while (index := transfer.claim()) is not None:

            def on_chunk(chunk: memoryview, index: int = index) -> None:
                transfer.write(index, chunk)
                self._checkpointer.written(len(chunk))

            while transfer.missing(index)[0] < transfer.missing(index)[1]:
                async with self._limiter.slot():
                    before = {index: transfer.state(index)}
                    handler = ResponseHandler(on_chunk, partial(transfer.rewind, before))
                    await self._ask(transfer.file, transfer.missing(index), handler, retries)

    # --- What both have in common ----------------------------------------------------------------

    async def _ask(
        self,
        file: FileRecord,
        span: tuple[int, int] | None,
        handler: ResponseHandler,
        retries: Retries,
    ) -> bool:
        """Make one request, and tell whether it brought all that it asked for.

        If it did not, return when it is time for the next. What came is progress where it is more
        than a drip, and was not undone.
        """
        count = 0

        def on_chunk(chunk: memoryview) -> None:
            nonlocal count
            count += len(chunk)
            handler.on_chunk(chunk)

        def on_discard() -> None:
            nonlocal count
            count = 0
            handler.on_discard()

        try:
            first_byte = await self._reader.read(
                file, span, ResponseHandler(on_chunk, on_discard, handler.on_headers)
            )
        except DownloaderError as error:
            if count >= LEAST_BYTES:
                retries.progress()
            if error.code is ErrorCode.TIMEOUT:
                self._limiter.on_throttled()
            await retries.after(error)
            return False
        retries.progress()
        self._limiter.on_success(first_byte)
        return True

    def _retries(self, file: FileRecord) -> Retries:
        """Return what decides on further requests for a file, and reports those that failed."""

        def report(error: DownloaderError, seconds: float) -> None:
            due = self._clock.now() + seconds
            self._sink.failed(file, error.code, error.message, next_attempt=due)

        return Retries(self._job.options.retry_count, self._clock, report)

    def _mismatched(self, file: FileRecord, mismatch: Mismatch) -> None:
        """Report a file that arrived damaged, and is fetched again at once."""
        now = self._clock.now()
        self._sink.failed(file, ErrorCode.CHECKSUM_MISMATCH, str(mismatch), next_attempt=now)

    async def _give_up(self, file: FileRecord) -> None:
        """Keep nothing of a file."""
        await self._wait_for_threads()
        await uninterrupted(self._checkpointer.give_up(file))

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks on the disk. Once it has begun it ends, whoever is cancelled."""
        future = self._threads.submit(function, *arguments)
        self._blocking.add(future)
        future.add_done_callback(self._blocking.discard)
        return await asyncio.wrap_future(future)

    async def _wait_for_threads(self) -> None:
        await asyncio.to_thread(wait, list(self._blocking))

    def _name(self, file: FileRecord) -> tuple[str, int]:
        return self._job.download_id, file.number

    def _of(self, file: FileRecord) -> tuple[str, str]:
        return self._job.download_id, file.name
