"""Collects what a damaged state has lost, as a sentence for the operator and as a file of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from .rows import InvalidUtf8, LeftOut, Lost, name

__all__ = ["Losses"]

_CALLED = {
    "downloads": "download",
    "models": "model",
    "versions": "retained version",
    "inbox": "unanswered command",
    "outbox": "unsent message",
    "answers": "response",
    "files": "planned file",
    "published": "published file",
    "notes": "note",
}
_NAMED = {"downloads": "", "models": "", "notes": "", "files": "of "}
"""Tables whose lost rows the sentence names, and the word before the names. Of files it names the
downloads."""

_MOST_NAMES = 20
_MOST_LISTED = 10_000

_json = msgspec.json.Encoder()


class Losses:
    """Collects losses, row by row."""

    def __init__(self, *, last_changes: bool) -> None:
        """`last_changes` says that the last transactions may be lost."""
        self._last_changes = last_changes
        self.tables: set[str] = set()
        """The tables that have lost something."""
        self._left_out = False
        self._partly: list[str] = []
        self._counts: dict[str, int] = {}
        self._names: dict[str, dict[str, None]] = {table: {} for table in _NAMED}
        self._listed: list[bytes] = []

    def leave_out(self, lost: LeftOut | None = None) -> None:
        """Record that something is lost that a newer downloader had added.

        `lost` is the row that has lost it. The rest of that row is kept.
        """
        self._left_out = True
        if lost:
            self._list(lost)

    def add(self, lost: Lost) -> None:
        """Record a lost row, or that a part of a table cannot be read."""
        self.tables.add(lost.table)
        self._list(lost)
        if lost.row is None:
            self._partly.append(lost.table)
            return
        self._counts[lost.table] = self._counts.get(lost.table, 0) + 1
        if lost.table in _NAMED:
            self._names[lost.table][_shown(name(lost.table, lost.row))] = None

    def sentence(self) -> str:
        """Return what is lost, and what the operator must do."""
        parts = [self._counted(table, count) for table, count in self._counts.items()]
        if self._last_changes:
            parts.insert(0, "perhaps the last changes")
        if self._left_out:
            parts.append("what a newer downloader had added")
        if self._partly:
            unread = ", ".join(_noun(table, 2) for table in self._partly)
            parts.append(f"what could not be read of {unread}")
        if not parts:
            return "nothing is known to be lost"
        advice = ""
        if {"downloads", "files"} & self.tables:
            advice = "; send the commands of the missing downloads again"
        if "models" in self.tables:
            advice += "; add the models again that the shadow does not restore"
        return f"lost: {', '.join(parts)}; everything else is kept{advice}"

    def write(self, path: Path) -> None:
        """Write the lost rows that could be read, one JSON object per line."""
        path.write_bytes(b"".join(self._listed))

    def _list(self, lost: Lost | LeftOut) -> None:
        if len(self._listed) < _MOST_LISTED:
            self._listed.append(_line(lost))

    def _counted(self, table: str, count: int) -> str:
        names = list(self._names.get(table, ()))[:_MOST_NAMES]
        shown = f" ({_NAMED[table]}{', '.join(names)})" if names else ""
        return f"{count} {_noun(table, count)}{shown}"


def _noun(table: str, count: int) -> str:
    ending = "" if count == 1 else "s"
    return f"{_CALLED[table]}{ending}" if table in _CALLED else f"row{ending} of {table}"


def _shown(text: str) -> str:
    return text if len(text) <= 64 and text.isprintable() else repr(text[:64])


def _line(lost: Lost | LeftOut) -> bytes:
    row = {column: _plain(value) for column, value in (lost.row or {}).items()}
    return _json.encode({"table": lost.table, "why": lost.why, "row": row}) + b"\n"


def _plain(value: Any) -> Any:
    raw = value.raw if isinstance(value, InvalidUtf8) else value
    return raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else raw
