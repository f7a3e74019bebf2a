"""The real store, with callers that can be held at a step, and a disk that can be full."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from s3downloader.core.records import Version
from s3downloader.store import Change, Outgoing, Store

from ..support import PATIENCE


class Gate:
    """Holds a caller of the store from when it is `reached` until the test opens it."""

    def __init__(self) -> None:
        self.waiting = 0
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    @property
    def is_reached(self) -> bool:
        return self._reached.is_set()

    async def reached(self) -> None:
        await asyncio.wait_for(self._reached.wait(), PATIENCE)

    def open(self) -> None:
        self._opened.set()

    async def pass_through(self) -> None:
        self._reached.set()
        self.waiting += 1
        await self._opened.wait()
        self.waiting -= 1


Gates = dict[str, tuple[Callable[[Any], bool], Gate]]


class GatedStore(Store):
    """The real store. Its callers can be held before `record`, and after other steps."""

    def __init__(self, directory: Path, *, gates: Gates) -> None:
        super().__init__(directory)
        self._gates = gates

    async def record(self, change: Change) -> list[Outgoing]:
        await self._gate("record", change)
        return await super().record(change)

    async def response(self, command_id: str) -> bytes | None:
        found = await super().response(command_id)
        await self._gate("response", command_id)
        return found

    async def outdated(self, download_id: str, plan: int) -> list[str]:
        paths = await super().outdated(download_id, plan)
        await self._gate("outdated", paths)
        return paths

    async def drop_outdated(self, download_id: str, plan: int) -> None:
        await super().drop_outdated(download_id, plan)
        await self._gate("drop_outdated", download_id)

    async def versions(self) -> list[Version]:
        versions = await super().versions()
        await self._gate("versions", versions)
        return versions

    async def delete_responses(self, *, before: float, most: int) -> None:
        await super().delete_responses(before=before, most=most)
        await self._gate("delete_responses", before)

    async def _gate(self, step: str, subject: Any) -> None:
        holds, gate = self._gates.get(step, (lambda _: False, None))
        if gate and holds(subject):
            await gate.pass_through()


class Commit(NamedTuple):
    """A transaction:

    whether its commit waits for a sync, and whether it has a message to publish.
    """

    is_synced: bool
    tells: bool


class Disk:
    """The disk of StateDir, which can be full for certain SQL statements."""

    def __init__(self) -> None:
        self.refused = 0
        self.commits: list[Commit] = []
        """The transactions that changed something, in order."""
        self._full: re.Pattern[str] | None = None
        self._times = 0.0

    @contextmanager
    def full(self, statement: str, times: float = float("inf")) -> Iterator[None]:
        """Refuse commits of transactions with a matching statement in the context.

        `statement` is a regular expression, which is searched in the SQL and its values. `times` is
        how often a change is refused. One in a batch is refused once more, alone; that counts once.
        """
        self._full, self._times = re.compile(statement, re.DOTALL), times
        try:
            yield
        finally:
            self._full = None

    def refuses(self, statement: str) -> bool:
        return bool(self._full and self._times > 0 and self._full.search(statement))

    def refuse(self, works: int) -> None:
        """Count a refused commit of as many transactions."""
        if works == 1:
            self.refused += 1
            self._times -= 1


def connection_on(disk: Disk) -> type[sqlite3.Connection]:
    """Return a connection class of SQLite for `disk`. It does not sync, to save time."""

    class Connection(sqlite3.Connection):
        doomed = False
        works = 0
        syncs = True
        tells = False
        committed = 0

        def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
            if sql.startswith("PRAGMA synchronous = "):
                self.syncs = sql.endswith("FULL")
                return super().execute("PRAGMA synchronous = OFF")
            if sql == "BEGIN IMMEDIATE":
                self.works = 0
            if sql == "SAVEPOINT work":
                self.works += 1
            if sql == "COMMIT" and self.doomed:
                self.doomed = False
                super().execute("ROLLBACK")
                disk.refuse(self.works)
                raise sqlite3.OperationalError("database or disk is full")
            if sql == "COMMIT" and self.total_changes > self.committed:
                self.committed = self.total_changes
                disk.commits.append(Commit(self.syncs, self.tells))
                self.tells = False
            self.tells = self.tells or "INTO outbox" in sql or "INTO answers" in sql
            self.doomed = self.doomed or disk.refuses(f"{sql} {values!r}")
            return super().execute(sql, values)

        def executemany(self, sql: str, rows: Any) -> sqlite3.Cursor:
            rows = list(rows)
            self.doomed = self.doomed or disk.refuses(f"{sql} {rows!r}")
            return super().executemany(sql, rows)

    return Connection
