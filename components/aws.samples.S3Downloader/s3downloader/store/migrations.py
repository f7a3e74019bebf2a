"""The schema, and how a state of an older version becomes one of the present."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files as resources

__all__ = ["MIGRATIONS", "schema"]

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

MIGRATIONS: Sequence[str] = (_CHECKSUMS_AND_VERSIONS, _INBOX_AND_RESPONSES)
"""Step N brings a state of version N + 1 to version N + 2.

Each adds a table or a column, so that a state of a later version is told from a damaged one.
"""


def schema() -> str:
    """Return the statements that make an empty state of the present version."""
    return resources(__package__).joinpath("schema.sql").read_text()
