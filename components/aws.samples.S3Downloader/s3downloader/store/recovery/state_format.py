"""The version of a state, and the oldest version whose downloader can work on it.

The table `format` has both in its only row, with a checksum. PRAGMA user_version repeats the
version. Thus a downloader can distinguish a state of a newer version, which it may open, from a
damaged one.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...core.decoding import DECODE_ERRORS
from ...core.errors import DownloaderError, ErrorCode
from ..migrations import Schema
from .sealing import is_intact, seal, unseal

__all__ = ["TABLE", "Format", "from_row", "read", "refusal", "write"]

TABLE = "format"


class Format(NamedTuple):
    """The version of a state, and the oldest one whose downloader can work on it."""

    version: int
    oldest_reader: int

    @classmethod
    def of(cls, schema: Schema) -> Format:
        """Return the format of a state with this schema."""
        return cls(schema.version, schema.oldest_reader)

    def is_newer(self, schema: Schema) -> bool:
        """Tell whether the state has a newer version than this schema."""
        return self.version > schema.version

    def can_be_read(self, schema: Schema) -> bool:
        """Tell whether a downloader with this schema can work on the state."""
        return self.oldest_reader <= schema.version


class _Body(msgspec.Struct):
    oldest_reader: int


def from_row(version: Any, body: Any) -> Format | None:
    """Return the format in a row of the table. None if the row is damaged."""
    if not isinstance(version, int) or not isinstance(body, bytes):
        return None
    if not is_intact(str(version), body):
        return None
    try:
        oldest_reader = msgspec.json.decode(unseal(body), type=_Body).oldest_reader
    except DECODE_ERRORS:
        return None
    return Format(version, oldest_reader)


def read(connection: sqlite3.Connection) -> Format | None:
    """Return the format of a state. None if the table is missing, or is not one sound row."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'format'").fetchone():
        return None
    rows = connection.execute("SELECT version, body FROM format").fetchall()
    return from_row(*rows[0]) if len(rows) == 1 else None


def write(connection: sqlite3.Connection, format_: Format) -> None:
    """Write the format of a state, in the open transaction."""
    version, oldest_reader = format_
    body = seal(str(version), msgspec.json.encode(_Body(oldest_reader)))
    connection.execute("DELETE FROM format")
    connection.execute("INSERT INTO format (version, body) VALUES (?, ?)", (version, body))
    connection.execute(f"PRAGMA user_version = {version}")


def refusal(path: Path, version: int, schema: Schema, why: str = "") -> DownloaderError:
    """Return the error for a state at `path` that this downloader cannot work on."""
    return DownloaderError(
        ErrorCode.INVALID_STATE,
        f"the state in {path.parent} has version {version}, and this downloader knows"
        f" {schema.version} at most{why}; deploy the newer one again, or choose another StateDir",
    )
