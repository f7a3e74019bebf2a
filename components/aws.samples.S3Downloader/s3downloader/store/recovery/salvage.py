"""Brings what can still be read of a damaged state into a new one, row by row.

Each table is read from both ends towards what is damaged.
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
    """Copy all sound rows into the empty tables of `into`; tell `losses` of the others.

    Of tables and columns that the schema does not have it is only asked that they can be read.
    Raises INVALID_STATE for a row that only a newer downloader can read, sqlite3.Error where the
    disk does not serve.
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
    """Copy the rows of a table that are sound, in what is `known` of them; yield the others."""
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
    """Put a row in, or say why that cannot be."""
    try:
        added = into.execute(insert, values).rowcount
    except sqlite3.IntegrityError:
        return "what it belongs to is lost"
    return None if added else "there is another one in its place"


def _read(source: sqlite3.Connection, table: Table) -> Iterator[tuple[Any, ...] | Lost]:
    """Yield each row once: from the first one up to what cannot be read, then from the last one."""
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
    """Yield rows until one comes that was seen on the way from the other end."""
    width = len(table.order)
    for row in source.execute(table.selection(order=order, keyed=True)):
        key = row[:width]
        if order == "DESC" and key in seen:
            return
        if None in key or key in seen:
            raise sqlite3.DatabaseError("its pages lead astray")
        seen.add(key)
        yield row[width:]
