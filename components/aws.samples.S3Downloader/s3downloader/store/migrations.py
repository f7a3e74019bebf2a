"""The schema of the state, and the steps that migrate a state from an older version."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from importlib.resources import files as resources
from typing import NamedTuple

from .earlier import rewrite_bodies

__all__ = ["MIGRATIONS", "Schema", "Step", "schema"]

_CHECKSUMS_AND_VERSIONS = """
ALTER TABLE files ADD COLUMN sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN checksum TEXT NOT NULL DEFAULT '';
CREATE TABLE versions (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE published (
    file     TEXT PRIMARY KEY,
    size     INTEGER NOT NULL,
    etag     TEXT NOT NULL,
    sha256   TEXT NOT NULL,
    checksum TEXT NOT NULL,
    inode    INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
) WITHOUT ROWID
"""

_INBOX_AND_RESPONSES = """
CREATE TABLE inbox (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    command_id TEXT NOT NULL,
    payload    BLOB NOT NULL,
    takeovers  INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX inbox_by_command ON inbox (command_id, number);
ALTER TABLE outbox RENAME COLUMN event TO payload;
ALTER TABLE outbox ADD COLUMN is_response INTEGER NOT NULL DEFAULT 0
"""

_FORMAT_SOURCES_AND_ATTEMPTS = """
CREATE TABLE format (version INTEGER PRIMARY KEY, body BLOB NOT NULL);
ALTER TABLE files ADD COLUMN modified REAL;
ALTER TABLE files ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN error_code TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN error TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN next_attempt REAL;
ALTER TABLE files ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE published ADD COLUMN download_id TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN channel TEXT NOT NULL DEFAULT 'responses'
"""


def _run(connection: sqlite3.Connection, statements: str) -> None:
    """Run statements one by one. `executescript` would commit the open transaction first."""
    statement = ""
    for piece in statements.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _to_version_4(connection: sqlite3.Connection) -> None:
    _run(connection, _FORMAT_SOURCES_AND_ATTEMPTS)
    rewrite_bodies(connection)


class Step(NamedTuple):
    """Migrates a state to the next version. All steps of a migration share one transaction.

    `change` is SQL, or a function of the connection. `oldest_reader` is the oldest version whose
    downloader can work on the result; CONTRIBUTING.md has the conditions.
    """

    change: str | Callable[[sqlite3.Connection], None]
    oldest_reader: int

    def take(self, connection: sqlite3.Connection) -> None:
        """Make the change, in the open transaction."""
        if isinstance(self.change, str):
            _run(connection, self.change)
        else:
            self.change(connection)


class Schema(NamedTuple):
    """The SQL of the present version's tables, and the steps to that version from version 1."""

    tables: str
    steps: Sequence[Step]

    @property
    def version(self) -> int:
        """The present version, as in PRAGMA user_version of a state."""
        return len(self.steps) + 1

    @property
    def oldest_reader(self) -> int:
        """The oldest version whose downloader can work on a state of the present version."""
        return self.steps[-1].oldest_reader if self.steps else self.version


MIGRATIONS: Sequence[Step] = (
    Step(_CHECKSUMS_AND_VERSIONS, oldest_reader=2),
    Step(_INBOX_AND_RESPONSES, oldest_reader=3),
    Step(_to_version_4, oldest_reader=4),
)
"""The step with index N migrates a state from version N + 1 to version N + 2."""


def schema() -> Schema:
    """Return the schema of the present version."""
    return Schema(resources(__package__).joinpath("schema.sql").read_text(), MIGRATIONS)
