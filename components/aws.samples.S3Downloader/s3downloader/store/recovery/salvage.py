"""Copies the sound rows of a damaged state into a new one.

Each table is read from both ends, up to the damaged part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from ..earlier import upgraded
from ..migrations import Schema
from . import state_format
from .errors import is_damage
from .losses import Losses
from .remains import Remains
from .rows import LeftOut, Lost, check, text
from .tables import Table, shape_of

__all__ = ["salvage"]


def salvage(remains: Remains, into: sqlite3.Connection, schema: Schema, losses: Losses) -> None:
    """Copy all sound rows into the empty tables of `into`. Add the others to `losses`.

    Tables and columns that the schema does not have are not checked, only read. Raises
    INVALID_STATE for a row that only a newer downloader can read, sqlite3.Error if the disk fails.
    """
    remains.connection.text_factory = text
    known = {name: table for name, (table, *_) in shape_of(schema.tables).items()}
    if remains.left_out:
        losses.leave_out()
    for name, target in remains.layout.tables.items():
        if name == state_format.TABLE:
            if not remains.format.is_newer(schema):
                continue
            into.execute("DELETE FROM format")
        for lost in _copy(remains, into, target, known.get(name, target)):
            if isinstance(lost, LeftOut):
                losses.leave_out(lost)
            else:
                losses.add(lost)
    for trigger in remains.layout.triggers:
        into.execute(trigger)


def _copy(
    remains: Remains, into: sqlite3.Connection, target: Table, known: Table
) -> Iterator[Lost | LeftOut]:
    """Copy the sound rows of a table, and yield the others. `known` are the columns to check."""
    table = remains.tables[target.name]
    names = [column.name for column in table.columns]
    insert, kept = target.insertion(), len(target.columns)
    for values in _read(remains.connection, table):
        if isinstance(values, Lost):
            yield values
            continue
        row = dict(zip(names, values, strict=True))
        if table.name == "downloads":
            row["body"] = upgraded(row["download_id"], row["body"])
        if why := check(known, row):
            remains.check_legible(known, row, why)
        else:
            why = _put(into, insert, tuple(row.values())[:kept])
        if why:
            yield Lost(table.name, row, why)
        elif any(value is not None for value in values[kept:]):
            yield LeftOut(table.name, row)


def _put(into: sqlite3.Connection, insert: str, values: tuple[Any, ...]) -> str | None:
    """Insert a row, or return why that is impossible."""
    try:
        added = into.execute(insert, values).rowcount
    except sqlite3.IntegrityError:
        return "the row that it refers to is lost"
    return None if added else "another row has its key"


def _read(source: sqlite3.Connection, table: Table) -> Iterator[tuple[Any, ...] | Lost]:
    """Yield each row once: forwards up to the damaged part, then backwards from the last row."""
    seen: set[Any] = set()
    for order in ("ASC", "DESC"):
        try:
            yield from _unseen(source, table, order, seen)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            if order == "ASC":
                yield Lost(table.name, None, f"a part of it cannot be read: {error}")
        else:
            return


def _unseen(
    source: sqlite3.Connection, table: Table, order: str, seen: set[Any]
) -> Iterator[tuple[Any, ...]]:
    """Yield rows, up to one that was read before from the other end."""
    width = len(table.order)
    for row in source.execute(table.selection(order=order, keyed=True)):
        key = row[:width]
        if order == "DESC" and key in seen:
            return
        if None in key or key in seen:
            raise sqlite3.DatabaseError("its pages are linked wrongly")
        seen.add(key)
        yield row[width:]
