"""Fetches with s5cmd: runs one `s5cmd run` per fetch, and gives it one file after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Iterable

from ...core.aio import stop, uninterrupted
from ...core.checksums import Mismatch
from ...core.clock import Clock
from ...core.error_mapping import explain
from ...core.errors import DownloaderError, ErrorCode
from ...core.records import FileRecord
from ...core.request_timeouts import MIN_BYTES
from ...sources.registry import Sources
from ..base import OBJECT_ERRORS, FetchJob, Sink, StagingSession
from ..fetch_errors import FetchErrors
from ..recovery import report_leftovers
from ..staging import Staging, mode_by_umask, number_in, vanished
from ..verification import Verifier, mismatch_error
from .program import Line, Process, S5cmd

__all__ = ["S5cmdEngine"]

Damaged = tuple[FileRecord, Mismatch]

_PART = 50 << 20  # the size of s5cmd's range requests in bytes
_TOO_MANY_BYTES = "EOF"  # the error text if a response has more bytes than the part
_TICK = 0.5
_SAVE_INTERVAL = 1.0
_SAVE_BYTES = 64 << 20


class S5cmdEngine:
    """Fetches with s5cmd. Complete files survive an interruption. Others start again from 0.

    If less than MIN_BYTES arrives in `stall_timeout` seconds, the fetch ends with STALLED,
    because s5cmd has no read timeout.
    """

    def __init__(
        self, tool: S5cmd, clock: Clock, sources: Sources, *, stall_timeout: float = 60.0
    ) -> None:
        self._tool = tool
        self._clock = clock
        self._sources = sources
        self._stall_timeout = stall_timeout

    async def recover(
        self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink
    ) -> StagingSession:
        """Recover complete files, see `Engine.recover`. Delete all others.

        No s5cmd of an earlier process is still running, because the kernel ends it with the daemon.
        """
        await report_leftovers(_staging(job), files, self._verifier(job), sink)
        return StagingSession(job, sink, self._fetch)

    async def _fetch(self, job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        """Fetch and verify all files, see `FetchSession.fetch`.

        A file that arrives with a wrong checksum is fetched once more.
        """
        staging = _staging(job)
        await asyncio.to_thread(staging.make)
        verifier = self._verifier(job)
        try:
            damaged = await self._run(job, files, sink, staging, verifier)
            if damaged:
                _report_damaged(sink, damaged, next_attempt=self._clock.now())
                again = _stream(file for file, _ in damaged)
                damaged = await self._run(job, again, sink, staging, verifier)
            _report_damaged(sink, damaged)
            for file, mismatch in damaged:
                raise mismatch_error(job, file, mismatch)
        finally:
            await asyncio.to_thread(staging.delete_temporary)

    async def _run(
        self,
        job: FetchJob,
        files: AsyncIterable[FileRecord],
        sink: Sink,
        staging: Staging,
        verifier: Verifier,
    ) -> list[Damaged]:
        """Run s5cmd once. Return the files that arrived with a wrong checksum."""
        async with self._tool.run(
            "run",
            retry_count=job.options.retry_count,
            numworkers=job.options.numworkers,
            accelerate=job.options.s3_transfer_acceleration,
        ) as process:
            fetch = _Fetch(job, staging, process, sink, verifier, self._clock, self._stall_timeout)
            await fetch.run(files)
            return fetch.damaged

    def _verifier(self, job: FetchJob) -> Verifier:
        return Verifier(job, self._sources.open(job.source, retry_count=0))


def _report_damaged(
    sink: Sink, damaged: Iterable[Damaged], next_attempt: float | None = None
) -> None:
    for file, mismatch in damaged:
        code = ErrorCode.CHECKSUM_MISMATCH
        sink.failed(file, code, str(mismatch), next_attempt=next_attempt)


def _staging(job: FetchJob) -> Staging:
    """Return the staging folder. It sets the mode of files, because s5cmd ignores the umask."""
    return Staging(job.staging, file_mode=mode_by_umask())


async def _stream(files: Iterable[FileRecord]) -> AsyncIterator[FileRecord]:
    for file in files:
        yield file


class _Fetch:
    """One run of s5cmd: gives it files, reads its results, and verifies and syncs the files."""

    def __init__(
        self,
        job: FetchJob,
        staging: Staging,
        process: Process,
        sink: Sink,
        verifier: Verifier,
        clock: Clock,
        stall_timeout: float,
    ) -> None:
        self.damaged: list[Damaged] = []
        self._verifier = verifier
        self._source = job.source
        self._limit = job.options.numworkers
        self._concurrency = min(job.options.concurrency, self._limit)
        self._staging = staging
        self._process = process
        self._sink = sink
        self._clock = clock
        self._stall_timeout = stall_timeout
        self._outstanding: dict[int, FileRecord] = {}
        self._requests = 0
        self._has_room = asyncio.Event()
        self._sizes: dict[int, int] = {}
        self._arrived: list[FileRecord] = []
        self._arrived_bytes = 0
        self._errors = FetchErrors()
        self._is_killed = False

    async def run(self, files: AsyncIterable[FileRecord]) -> None:
        feeding = asyncio.create_task(self._guarded(self._feed(files)))
        checkpointing = asyncio.create_task(self._guarded(self._checkpoint()))
        try:
            await self._guarded(self._read())
        finally:
            await stop(feeding)
            await stop(checkpointing)
        await self._guarded(uninterrupted(self._save()))
        if error := self._errors.decisive:
            raise error

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        """Let the first thing that goes wrong in `work` end s5cmd, and with it everything."""
        try:
            await work
        except Exception as error:
            self._errors.add_fatal_error(error)
            self._is_killed = True
            self._process.kill()

    async def _feed(self, files: AsyncIterable[FileRecord]) -> None:
        """Give files to s5cmd, so that it has at most `numworkers` requests at once."""
        async for file in files:
            while self._requests and self._requests + self._weight(file) > self._limit:
                self._has_room.clear()
                await self._has_room.wait()
            if self._errors.decisive:
                break
            if not file.validator and file.size > _PART:
                why = "gives neither ETag nor date, so a replaced object would not be noticed"
                raise self._reported(file, self._unsupported(file, why))
            self._outstanding[file.number] = file
            self._requests += self._weight(file)
            await self._process.write(
                "cp",
                "--raw",
                f"--concurrency={self._concurrency}",
                self._source.uri_of(file.name),
                str(self._staging.target(file.number)),
            )
        self._process.close_input()

    def _weight(self, file: FileRecord) -> int:
        """Return how many requests s5cmd sends at once for a file."""
        return max(1, min(self._concurrency, -(-file.size // _PART)))

    async def _read(self) -> None:
        """Read the results of s5cmd until it ends. Raises ENGINE_FAILED if files are missing."""
        while lines := await self._process.read():
            for line in lines:
                self._on_line(line)
            self._has_room.set()
        problem = await self._process.wait()
        if self._outstanding or (problem and not self._errors.decisive):
            error = DownloaderError(
                ErrorCode.ENGINE_FAILED,
                f"{problem or 's5cmd ended'} before all files were fetched; if the device is out of"
                " memory, lower numworkers",
            )
            raise error if self._is_killed else self._reported_of_outstanding(error)

    def _on_line(self, line: Line) -> None:
        """Process one result of s5cmd: a complete file, or an error."""
        number = number_in(line.destination or line.command)
        file = None if number is None else self._outstanding.pop(number, None)
        if file:
            self._requests -= self._weight(file)
        if line.error:
            self._on_error(line.error, file)
        elif file:
            self._arrived.append(file)
            self._arrived_bytes += file.size

    def _on_error(self, text: str, file: FileRecord | None) -> None:
        """Record an error of one object, to be raised later. Raise any other error at once."""
        error = explain(text, self._source.uri_of(file.name if file else ""))
        if file and text == _TOO_MANY_BYTES:
            error = self._unsupported(file, "sends more bytes than s5cmd requests")
        if file:
            self._reported(file, error)
        if not file or error.code not in OBJECT_ERRORS:
            raise error
        self._errors.add_object_error(error)

    async def _checkpoint(self) -> None:
        """Report progress, save complete files in batches, and raise STALLED if nothing arrives."""
        saved = moved = self._clock.monotonic()
        before, outstanding = 0, [*self._outstanding]
        while True:
            await self._clock.sleep(_TICK)
            self._sizes = await asyncio.to_thread(self._staging.measure)
            self._report()
            now = self._clock.monotonic()
            is_drip = abs(self._in_flight - before) < MIN_BYTES
            if not is_drip or [*self._outstanding] != outstanding or not outstanding:
                before, outstanding, moved = self._in_flight, [*self._outstanding], now
            elif now - moved >= self._stall_timeout:
                raise self._reported_of_outstanding(self._stalled())
            if self._arrived_bytes >= _SAVE_BYTES or now - saved >= _SAVE_INTERVAL:
                await uninterrupted(self._save())
                saved = self._clock.monotonic()

    async def _save(self) -> None:
        """Move, verify, sync and report complete files. Must not be interrupted."""
        files, self._arrived = self._arrived, []
        if not files:
            return
        moved = await asyncio.to_thread(self._staging.move_arrived, files)
        verified = await self._verifier.verify_staged(self._staging, moved.complete)
        self.damaged += verified.damaged
        for file, error in verified.gone:
            self._errors.add_object_error(self._reported(file, error))
        self._report()
        if verified.good:
            await self._sink.finished(verified.good)
        self._arrived_bytes -= sum(file.size for file in files)
        if moved.missing:
            raise vanished()
        numbers = {file.number for file in moved.complete}
        for file in (file for file in files if file.number not in numbers):
            self._errors.add_object_error(self._reported(file, self._mismatch(file)))

    def _reported(self, file: FileRecord, error: DownloaderError) -> DownloaderError:
        """Report that a file failed. Return the error."""
        self._sink.failed(file, error.code, error.message)
        return error

    def _reported_of_outstanding(self, error: DownloaderError) -> DownloaderError:
        """Report that all files failed that s5cmd was fetching. Return the error."""
        for file in self._outstanding.values():
            self._reported(file, error)
        return error

    @property
    def _in_flight(self) -> int:
        """The bytes on disk of files that are not reported as finished yet."""
        sizes = self._sizes
        return self._arrived_bytes + sum(sizes.get(number, 0) for number in self._outstanding)

    def _report(self) -> None:
        self._sink.progress(self._in_flight)

    def _mismatch(self, file: FileRecord) -> DownloaderError:
        return DownloaderError(
            ErrorCode.SIZE_MISMATCH,
            f"{self._source.uri_of(file.name)} did not arrive with its {file.size} bytes; it was "
            "replaced meanwhile; resume to fetch the new one",
        )

    def _unsupported(self, file: FileRecord, why: str) -> DownloaderError:
        return DownloaderError(
            ErrorCode.ENGINE_FAILED,
            f"s5cmd cannot fetch {self._source.uri_of(file.name)}: the object store {why};"
            " fetch it with engine auto",
        )

    def _stalled(self) -> DownloaderError:
        file = next(iter(self._outstanding.values()))
        return DownloaderError(
            ErrorCode.STALLED,
            f"nothing arrived for {self._stall_timeout:g} s while {self._source.uri_of(file.name)} "
            "was fetched; check the network",
        )
