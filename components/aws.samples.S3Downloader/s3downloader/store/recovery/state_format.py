"""Which version a state has, and from which version on a downloader can work on it.

The one row of the table `format` says both, with a check sum; PRAGMA user_version repeats the
version. So a downloader can tell a state of a newer one, which it may open, from a damaged one.
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

__all__ = ["TABLE", "Format", "believe", "read", "refuse", "write"]

TABLE = "format"


class Format(NamedTuple):
    """The version of a state, and the oldest one whose downloader can work on it."""

    version: int
    oldest_reader: int

    @classmethod
    def of(cls, schema: Schema) -> Format:
        """Return the format of a state that has this schema."""
        return cls(schema.version, schema.oldest_reader)

    def is_newer(self, schema: Schema) -> bool:
        """Whether it is that of a newer downloader than one that has this schema."""
        return self.version > schema.version

    def can_be_read(self, schema: Schema) -> bool:
        """Whether a downloader that has this schema can work on such a state."""
        return self.oldest_reader <= schema.version


class _Body(msgspec.Struct):
    oldest_reader: int


def believe(version: Any, body: Any) -> Format | None:
    """Return what a row of the table says, None where it is not as a downloader wrote it."""
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
    """Return what the table says; None where it is missing, or has not one row to believe."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'format'").fetchone():
        return None
    rows = connection.execute("SELECT version, body FROM format").fetchall()
    return believe(*rows[0]) if len(rows) == 1 else None


def write(connection: sqlite3.Connection, format_: Format) -> None:
    """Have a state say its format, in the transaction that is under way."""
    version, oldest_reader = format_
    body = seal(str(version), msgspec.json.encode(_Body(oldest_reader)))
    connection.execute("DELETE FROM format")
    connection.execute("INSERT INTO format (version, body) VALUES (?, ?)", (version, body))
    connection.execute(f"PRAGMA user_version = {version}")


def refuse(path: Path, version: int, schema: Schema, why: str = "") -> DownloaderError:
    """Return the error for a state at `path` that this downloader cannot work on."""
    return DownloaderError(
        ErrorCode.INVALID_STATE,
        f"the state in {path.parent} has version {version}, and this downloader knows"
        f" {schema.version} at most{why}; deploy the newer one again, or choose another StateDir",
    )
