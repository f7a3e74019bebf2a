"""One SQLite file, opened by exactly one process, written by group commit."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..core.aio import background
from ..core.errors import DownloaderError, ErrorCode, from_system
from .migrations import Schema
from .recovery.opening import make_directory, make_private, open_state

__all__ = ["Database"]

T = TypeVar("T")


class _Work(NamedTuple):
    """What is to be done with the connection."""

    run: Callable[[sqlite3.Connection], Any]
    reads: bool
    """Whether it writes nothing."""
    durable: bool
    """Whether it is to survive a loss of power once it is committed."""


class Database:
    """Transactions on one thread; those that wait together are committed together.

    A commit is on disk when it returns (WAL with synchronous=FULL), so the cost of the sync is
    shared by all that wait for it. One that is not `durable` outlives the process at once, and a
    loss of power with the next one that is: SQLite appends to the WAL in order, and its sync is of
    all that was appended ("Write-Ahead Logging", and PRAGMA synchronous, in SQLite's manual).
    """

    def __init__(self, directory: Path, schema: Schema) -> None:
        """Open or create `directory/state.db`; bring an older one to the present version.

        One that a newer downloader wrote is left in its version where it allows that: `is_newer`
        says so then. Raises INVALID_STATE where it does not.

        Raises INVALID_STATE when another process has it open, DESTINATION_NOT_WRITABLE when the
        directory cannot be used, DISK_FULL or INTERNAL_ERROR when the disk does not serve. Only a
        file whose content is damaged is set aside, and what is left of it goes on; `damaged` then
        names it.
        """
        self.damaged: Path | None = None
        try:
            make_directory(directory)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            make_private(directory)
        except OSError as error:
            raise DownloaderError(
                ErrorCode.DESTINATION_NOT_WRITABLE,
                f"StateDir {directory} cannot be used: {error.strerror}",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise DownloaderError(
                ErrorCode.INVALID_STATE,
                f"another process has the state in {directory} open; stop it, or give this one"
                " a StateDir of its own",
            ) from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            self._thread.submit(int).result()  # starts it while its lack can still be told
            self._connection, self.damaged = open_state(directory, schema)
            self.is_newer = _version(self._connection) > schema.version
        except Exception as error:
            self._thread.shutdown()
            os.close(self._lock)
            if isinstance(error, sqlite3.Error | OSError):
                raise _explain(error) from error
            if known := from_system(error):
                raise known from error
            raise
        self._waiting: list[tuple[_Work, asyncio.Future[Any]]] = []
        self._syncs = True
        self._flushing: asyncio.Task[None] | None = None

    async def transact(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run `work` in a transaction and return its result once that is on disk.

        One that is not `durable` may be lost with the power until the next one that is.
        When `work` raises, what it did is undone and the error is raised here. Once begun, it is
        carried out even if the caller is cancelled.
        """
        result: T = await self._enqueue(_Work(work, reads=False, durable=durable))
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which writes nothing, in its turn; return its result.

        It sees what was asked for before it, and is not refused with it where the disk is full.
        """
        result: T = await self._enqueue(_Work(work, reads=True, durable=False))
        return result

    async def _enqueue(self, work: _Work) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = background(self._flush())
        return await future

    async def close(self) -> None:
        """Commit what waits, then close and let another process open it."""
        if self._flushing is not None:
            await self._flushing
        self._thread.shutdown()
        self._connection.close()
        os.close(self._lock)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            works = [work for work, _ in batch]
            try:
                outcomes = await loop.run_in_executor(self._thread, self._run, works)
            except Exception as error:  # whoever waits must hear of it
                outcomes = [(None, error)] * len(batch)
            for (_, future), (result, problem) in zip(batch, outcomes, strict=True):
                if future.cancelled():
                    continue
                if problem is None:
                    future.set_result(result)
                else:
                    future.set_exception(problem)

    def _run(self, batch: list[_Work]) -> list[tuple[Any, Exception | None]]:
        try:
            self._sync_commits(any(work.durable for work in batch))
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._run_one(work) for work in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            refused = (None, _explain(error))
            return [
                self._run([work._replace(reads=False)])[0] if work.reads else refused
                for work in batch
            ]
        return outcomes

    def _sync_commits(self, durable: bool) -> None:
        """Have SQLite sync its log with each commit from now on, or leave that out."""
        if durable is not self._syncs:
            level = "FULL" if durable else "NORMAL"
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._syncs = durable

    def _run_one(self, work: _Work) -> tuple[Any, Exception | None]:
        self._connection.execute("SAVEPOINT work")
        try:
            result = work.run(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # SQLite gave the whole transaction up, as it does when the disk is full
            self._connection.execute("ROLLBACK TO work")
            self._connection.execute("RELEASE work")
            return None, _explain(error) if isinstance(error, sqlite3.Error) else error
        self._connection.execute("RELEASE work")
        return result, None


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _explain(error: sqlite3.Error | OSError) -> DownloaderError:
    full = "full" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return DownloaderError(
        ErrorCode.DISK_FULL if full else ErrorCode.INTERNAL_ERROR,
        f"the state could not be written: {error}; "
        + ("free some space" if full else "see to the disk, its space and the rights")
        + " where StateDir lies",
    )
