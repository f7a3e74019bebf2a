"""What is damage to the state, and what is trouble with the disk that it lies on."""

from __future__ import annotations

import sqlite3

__all__ = ["Damage", "is_damage"]

_TROUBLE = ("disk I/O error", "is full", "unable to open", "readonly", "locked")
"""What SQLite says where the disk does not serve, or another program is in the way."""


class Damage(Exception):
    """The content of a state is not what a downloader wrote.

    `last_changes` says that transactions are lost which had been recorded last.
    """

    def __init__(self, why: str, *, last_changes: bool = False) -> None:
        super().__init__(why)
        self.last_changes = last_changes


def is_damage(error: BaseException) -> bool:
    """Tell damage from trouble with the disk; SQLite calls some of either OperationalError.

    What SQLite quotes of a damaged file need not be text.
    """
    if isinstance(error, sqlite3.OperationalError):
        return not any(word in str(error) for word in _TROUBLE)
    return isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError)
