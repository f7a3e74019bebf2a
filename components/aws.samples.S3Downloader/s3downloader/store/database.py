"""Runs transactions on one SQLite file, which one process has open. Writes by group commit."""

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
    """A function that works on the connection."""

    run: Callable[[sqlite3.Connection], Any]
    durable: bool
    """Whether its commit must survive a loss of power."""


class Database:
    """Runs transactions on one thread. Those that wait together are committed together.

    A commit is on disk when it returns (WAL with synchronous=FULL). All transactions in it share
    the cost of the sync. A transaction that is not `durable` survives the end of the process at
    once. It survives a loss of power only after the next durable one: SQLite appends to the WAL in
    order, and a sync covers everything appended so far. Source: "Write-Ahead Logging", and PRAGMA
    synchronous, in SQLite's manual.
    """

    def __init__(self, directory: Path, schema: Schema) -> None:
        """Open or create `directory/state.db`. Migrate an older one to the present version.

        A state of a newer version stays in its version, if it allows this downloader; `is_newer` is
        then true. If the content is damaged, the file is set aside and its sound rows are copied
        into a new one; `damaged` is then the path of the old file.

        Raises INVALID_STATE if a newer version does not allow this downloader, or if another
        process has the state open. Raises DESTINATION_NOT_WRITABLE if the directory cannot be used,
        DISK_FULL or INTERNAL_ERROR if the disk fails.
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
            self._thread.submit(int).result()  # starts the thread here, where a failure is handled
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
        """Run `work` in a transaction. Return its result when the transaction is on disk.

        A loss of power may undo a transaction that is not `durable`, until the next durable one is
        on disk. If `work` raises, its changes are undone, and the exception is raised here. It is
        carried out even if the caller is cancelled.
        """
        result: T = await self._enqueue(_Work(work, durable))
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which only reads, and return its result.

        It sees the changes of all transactions requested before it, except for those that are
        refused, as they are if the disk is full.
        """
        result: T = await self._enqueue(_Work(work, durable=False))
        return result

    async def _enqueue(self, work: _Work) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = background(self._flush())
        return await future

    async def close(self) -> None:
        """Commit the waiting transactions, close the file, and release its lock."""
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
            except Exception as error:  # raised in each caller that waits
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
            if len(batch) == 1:
                return [(None, _explain(error))]
            # Each has a commit of its own now, so that one that does not fit fails alone.
            return [self._run([work])[0] for work in batch]
        return outcomes

    def _sync_commits(self, durable: bool) -> None:
        """Set whether SQLite syncs its log with each commit from now on."""
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
                raise  # SQLite rolled back the complete transaction, as it does if the disk is full
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
        + ("free some space" if full else "check the disk, its space and the permissions")
        + " where StateDir is",
    )
