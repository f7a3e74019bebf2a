"""Distinguishes damage to the state from failures of its disk."""

from __future__ import annotations

import sqlite3

__all__ = ["Damage", "is_damage"]

_DISK_FAILURES = ("disk I/O error", "is full", "unable to open", "readonly", "locked")
"""What SQLite says if the disk fails, or if another program has locked the file."""


class Damage(Exception):
    """The content of a state is not what a downloader wrote.

    `last_changes` says that the last recorded transactions are lost.
    """

    def __init__(self, why: str, *, last_changes: bool = False) -> None:
        super().__init__(why)
        self.last_changes = last_changes


def is_damage(error: BaseException) -> bool:
    """Tell whether an exception means damage, and not a failure of the disk.

    SQLite raises OperationalError for some of both. A damaged file may also cause a
    UnicodeDecodeError, because SQLite quotes it.
    """
    if isinstance(error, sqlite3.OperationalError):
        return not any(word in str(error) for word in _DISK_FAILURES)
    return isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError)
