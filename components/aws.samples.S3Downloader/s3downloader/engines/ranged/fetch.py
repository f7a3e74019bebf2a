"""Runs one fetch: small files with one request each, large files in parts."""

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
from ...core.request_timeouts import MIN_BYTES
from ..base import OBJECT_ERRORS, FetchJob, Sink
from ..disk import Disk
from ..fetch_errors import FetchErrors
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
"""Fetches a file. Gets it twice: as it is listed, and with the validator to pin requests to."""

_MAX_FETCHES = 2
"""How often a file that cannot be continued is fetched at most."""

_DELETING = {ErrorCode.SOURCE_CHANGED, ErrorCode.CHECKSUM_MISMATCH, ErrorCode.OBJECT_NOT_FOUND}
"""Codes of errors after which all that has arrived of a file is deleted."""


class Fetch:
    """Fetches the files of a job. Starts files while request slots are free."""

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
        """`own_validators` are those that differ from the listing, by file number."""
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
        self._errors = FetchErrors()

    async def run(self, files: AsyncIterable[FileRecord]) -> None:
        """Fetch and verify all files, see `FetchSession.fetch`."""
        self._working = asyncio.create_task(self._guarded(self._work(files)))
        checkpointing = asyncio.create_task(self._guarded(self._checkpointer.run()))
        try:
            await asyncio.wait([self._working])
        finally:
            await uninterrupted(self._end(self._working, checkpointing))
        if error := self._errors.decisive:
            raise error

    async def _end(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            await stop(task)
        await self._wait_for_threads()
        await self._guarded(self._checkpointer.finish())

    def _fail(self, error: Exception) -> None:
        """End the fetch with `error`."""
        self._errors.add_fatal_error(error)
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
        """Start one file after the other, whenever earlier files leave a request slot free."""
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
        """Fetch a file. An error of its object alone is recorded, and raised after other files."""
        try:
            await self._fetch_pinned(file, fetch)
            self._features.restarts.pop(self._file_id(file), None)
        except DownloaderError as error:
            if error.code in _DELETING:
                await self._delete(file)
            self._sink.failed(file, error.code, error.message)
            if error.code not in OBJECT_ERRORS:
                raise
            log.warning("%s: %s", self._job.download_id, error)
            self._errors.add_object_error(error)

    async def _fetch_pinned(self, file: FileRecord, fetch: _FetchFile) -> None:
        """Fetch a file with its listed validator, or else with its object's own."""
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
            await self._delete(file)
            await fetch(file, fallback)

    def _can_continue(self, pinned: FileRecord) -> bool:
        """Return whether the rest of a file can be requested after a request breaks off."""
        return bool(pinned.validator) and not self._features.ranges.is_ignored

    def _count_restart(self, file: FileRecord) -> None:
        """Count that a file that cannot be continued is fetched again.

        Raises ENGINE_FAILED if it has been fetched _MAX_FETCHES times.
        """
        self._features.restarts[self._file_id(file)] += 1
        if self._features.restarts[self._file_id(file)] < _MAX_FETCHES:
            return
        del self._features.restarts[self._file_id(file)]
        raise DownloaderError(
            ErrorCode.ENGINE_FAILED,
            f"{self._job.source.uri_of(file.name)} broke off twice and cannot be continued: the"
            " object store ignores Range, or gives neither ETag nor date; resume to fetch it again",
        )

    # --- Small files: one request, in memory until they are complete -----------------------------

    async def _attempt_small(self, file: FileRecord) -> None:
        """Fetch a small file. Its request slot has already been taken, and is released here."""
        try:
            await self._attempt(file, self._fetch_small)
        finally:
            self._limiter.release()

    async def _fetch_small(self, file: FileRecord, pinned: FileRecord) -> None:
        """Fetch and verify a small file. Fetch it once more if its checksum is wrong."""
        label, mismatch = await self._download_small(pinned)
        if mismatch:
            log.warning("%s: %s is fetched again: %s", *self._log_names(file), mismatch)
            self._mismatched(file, mismatch)
            self._checkpointer.on_discarded(file.size)
            label, mismatch = await self._download_small(pinned)
        if mismatch:
            self._checkpointer.on_discarded(file.size)
            raise mismatch_error(self._job, file, mismatch)
        await self._pins.check_unchanged(file, pinned)
        self._checkpointer.on_complete(msgspec.structs.replace(file, checksum=label))

    async def _download_small(self, file: FileRecord) -> tuple[str, Mismatch | None]:
        """Fetch and write a small file. Return as `Verifier.check_file`."""
        path = self._staging.target(file.number)
        small = SmallFile(file, path, self._disk, self._verifier)
        retries = self._retries(file)
        is_here = False
        while not is_here:
            if small.arrived and not self._can_continue(file):
                self._count_restart(file)
                small.discard()
            try:
                is_here = await self._send(file, small.missing, small.handler(), retries)
            except RangesIgnoredError:
                if not small.arrived:  # the request was for the complete object
                    raise
        if not file.size:
            await self._in_thread(small.write_empty)
        self._checkpointer.on_received(file.size)
        if small.mismatch:
            return await self._verifier.check_file(path, file, small.expected)
        return label_of(file, small.expected), None

    # --- Large files: in parts, with a journal ---------------------------------------------------

    async def _fetch_large(
        self, file: FileRecord, pinned: FileRecord, *, queued: asyncio.Event
    ) -> None:
        """Fetch and verify a large file in parts. Fetch damaged parts once more.

        Sets `queued` when its requests wait for slots.
        """
        retries = self._retries(file)
        expected = await retries.until_success(lambda: self._verifier.expected(pinned))
        transfer = await uninterrupted(self._open(pinned, file.validator, expected))
        await self._fetch_missing(transfer, queued)
        label, mismatch = await self._verifier.check_transfer(transfer, expected)
        if mismatch:
            again = await self._in_thread(transfer.reset_damaged, mismatch)
            log.warning(
                "%s: %s: %s; %d bytes are fetched again", *self._log_names(file), mismatch, again
            )
            self._mismatched(file, mismatch)
            if not self._can_continue(pinned):
                self._count_restart(file)
            await self._fetch_missing(transfer, queued)
            label, mismatch = await self._verifier.check_transfer(transfer, expected)
        if mismatch:
            raise mismatch_error(self._job, file, mismatch)
        await self._pins.check_unchanged(file, pinned)
        self._checkpointer.on_complete(msgspec.structs.replace(file, checksum=label), transfer)

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
        self._checkpointer.on_opened(transfer)
        return transfer

    async def _fetch_missing(self, transfer: Transfer, queued: asyncio.Event) -> None:
        """Fetch what is missing of a file in ranges, or the complete object in one request."""
        if self._can_continue(transfer.file):
            with contextlib.suppress(RangesIgnoredError):  # _can_continue is false from now on
                await self._fetch_parts(transfer, queued)
                return
        await self._fetch_whole(transfer, queued)

    async def _fetch_whole(self, transfer: Transfer, queued: asyncio.Event) -> None:
        """Fetch a file in one request, from its first byte to its last.

        Bytes that have already arrived are skipped. Without a validator they are discarded,
        because nothing shows that they belong to the same version of the object.
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
            self._checkpointer.on_written(len(chunk))

        while not transfer.is_complete:
            if offset:
                self._count_restart(file)
                offset = 0
            if not file.validator and transfer.bytes_done:
                await self._in_thread(transfer.rewind, nothing)
            handler = ResponseHandler(on_chunk, partial(transfer.rewind, transfer.states()))
            async with self._limiter.slot():
                await self._send(file, None, handler, retries)

    async def _fetch_parts(self, transfer: Transfer, queued: asyncio.Event) -> None:
        """Fetch what is missing of a file in ranges, with up to `concurrency` requests at once."""
        count = min(self._job.options.concurrency, transfer.parts_waiting)
        connections = [self._fetch_next_parts(transfer) for _ in range(count)]
        if connections:
            asyncio.get_running_loop().call_soon(queued.set)
            await run_all(*connections)

    async def _fetch_next_parts(self, transfer: Transfer) -> None:
        """Fetch parts of a file one after the other, until none is left."""
        retries = self._retries(transfer.file)
        while (index := transfer.claim()) is not None:

            def on_chunk(chunk: memoryview, index: int = index) -> None:
                transfer.write(index, chunk)
                self._checkpointer.on_written(len(chunk))

            while transfer.missing(index)[0] < transfer.missing(index)[1]:
                async with self._limiter.slot():
                    before = {index: transfer.state(index)}
                    handler = ResponseHandler(on_chunk, partial(transfer.rewind, before))
                    await self._send(transfer.file, transfer.missing(index), handler, retries)

    # --- Both ------------------------------------------------------------------------------------

    async def _send(
        self,
        file: FileRecord,
        span: tuple[int, int] | None,
        handler: ResponseHandler,
        retries: Retries,
    ) -> bool:
        """Send one request. Return whether it delivered all that was requested.

        If it did not, wait until the next attempt, then return False. At least MIN_BYTES that
        were not discarded count as progress. Raises if there should be no other attempt.
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
            if count >= MIN_BYTES:
                retries.on_progress()
            if error.code is ErrorCode.TIMEOUT:
                self._limiter.on_throttled()
            await retries.wait_or_raise(error)
            return False
        retries.on_progress()
        self._limiter.on_success(first_byte)
        return True

    def _retries(self, file: FileRecord) -> Retries:
        """Return the Retries for requests of a file. It reports failed requests to the sink."""

        def report(error: DownloaderError, seconds: float) -> None:
            due = self._clock.now() + seconds
            self._sink.failed(file, error.code, error.message, next_attempt=due)

        return Retries(self._job.options.retry_count, self._clock, report)

    def _mismatched(self, file: FileRecord, mismatch: Mismatch) -> None:
        """Report that a file arrived with a wrong checksum, and is fetched again at once."""
        now = self._clock.now()
        self._sink.failed(file, ErrorCode.CHECKSUM_MISMATCH, str(mismatch), next_attempt=now)

    async def _delete(self, file: FileRecord) -> None:
        """Delete all that has arrived of a file."""
        await self._wait_for_threads()
        await uninterrupted(self._checkpointer.delete(file))

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that blocks on the disk. It runs to its end, even after cancellation."""
        future = self._threads.submit(function, *arguments)
        self._blocking.add(future)
        future.add_done_callback(self._blocking.discard)
        return await asyncio.wrap_future(future)

    async def _wait_for_threads(self) -> None:
        await asyncio.to_thread(wait, list(self._blocking))

    def _file_id(self, file: FileRecord) -> tuple[str, int]:
        return self._job.download_id, file.number

    def _log_names(self, file: FileRecord) -> tuple[str, str]:
        return self._job.download_id, file.name
