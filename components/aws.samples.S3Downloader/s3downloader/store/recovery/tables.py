"""Reads which tables a database has, and compares them with those of the schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

__all__ = ["Column", "Shape", "Table", "extends", "listed", "shape", "shape_of", "tables"]

_OWN = (
    "SELECT name, coalesce(sql LIKE '%WITHOUT ROWID%', FALSE) FROM sqlite_schema"
    " WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
)

_FOLLOW = {"CASCADE", "SET NULL", "SET DEFAULT"}
"""Actions of a foreign key that let the row it refers to be removed, or get another key."""


class Column(NamedTuple):
    """A column of a table.

    `default` is an SQL literal. `key` is the column's position in the primary key, from 1, or 0.
    """

    name: str
    type: str
    required: bool
    default: str | None
    key: int


class Table(NamedTuple):
    """A table. Without rowids, its rows are stored in the order of the primary key."""

    name: str
    columns: Sequence[Column]
    without_rowid: bool

    @property
    def keys(self) -> list[str]:
        """The columns of the primary key, in its order."""
        keys = sorted((c for c in self.columns if c.key), key=lambda column: column.key)
        return [column.name for column in keys]

    @property
    def order(self) -> list[str]:
        """The columns that identify a row, and by which rows are stored in order."""
        return self.keys if self.without_rowid else ["rowid"]

    def selection(self, condition: str = "TRUE", order: str = "ASC", *, keyed: bool = False) -> str:
        """Return the query for all columns of the rows for which `condition` is true, in order.

        If `keyed`, the columns of the property `order` come first.
        """
        columns = [*(self.order if keyed else ()), *(column.name for column in self.columns)]
        by = ", ".join(f"{listed([key])} {order}" for key in self.order)
        rows = ("FROM", listed([self.name]), "WHERE", condition, "ORDER BY", by)
        return " ".join(("SELECT", listed(columns), *rows))

    def insertion(self) -> str:
        """Return the statement that inserts a row, unless a row with its key exists."""
        names = listed(column.name for column in self.columns)
        values = ", ".join("?" * len(self.columns))
        parts = [
            "INSERT OR IGNORE INTO",
            listed([self.name]),
            "(",
            names,
            ") VALUES (",
            values,
            ")",
        ]
        return " ".join(parts)


class Shape(NamedTuple):
    """A table with its foreign keys and indexes, each as rows of SQLite's pragmas."""

    table: Table
    foreign_keys: Sequence[tuple[Any, ...]]
    indexes: Sequence[tuple[Any, ...]]


def listed(names: Iterable[str]) -> str:
    """Return names of tables or columns as an SQL list, each in quotation marks."""
    return ", ".join(f'"{name}"' for name in names)


def tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """Return the tables by name, in the order in which they were created."""
    return {
        name: Table(name, _columns(connection, name), bool(without_rowid))
        for name, without_rowid in connection.execute(_OWN).fetchall()
    }


def shape(connection: sqlite3.Connection) -> dict[str, Shape]:
    """Return the shapes of all tables by name. Databases of the same schema have equal shapes."""
    return {
        name: Shape(table, _foreign_keys(connection, name), _indexes(connection, name))
        for name, table in tables(connection).items()
    }


def shape_of(statements: str) -> dict[str, Shape]:
    """Return the shapes of the tables that these statements create."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(statements)
        return shape(connection)


def extends(found: Mapping[str, Shape], known: Mapping[str, Shape]) -> bool:
    """Tell whether a downloader that knows the tables `known` can work on the tables `found`.

    It can if `found` only adds to `known`, and if no addition makes one of its statements fail:
    added columns have defaults or may be NULL, added indexes are not unique, and added foreign keys
    do not prevent the removal of a row.
    """
    added_keys = [
        key
        for name, table in found.items()
        for key in table.foreign_keys
        if name not in known or key not in known[name].foreign_keys
    ]
    adds = all(name in found and _adds_to(found[name], known[name]) for name in known)
    return adds and not any(_blocks(key, known) for key in added_keys)


def _adds_to(found: Shape, known: Shape) -> bool:
    count = len(known.table.columns)
    columns, added = found.table.columns[:count], found.table.columns[count:]
    return (
        found.table._replace(columns=columns) == known.table
        and all(not column.required or column.default is not None for column in added)
        and set(known.foreign_keys) <= set(found.foreign_keys)
        and set(known.indexes) <= set(found.indexes)
        and not any(unique for _, unique, *_ in set(found.indexes) - set(known.indexes))
    )


def _blocks(foreign_key: tuple[Any, ...], known: Mapping[str, Shape]) -> bool:
    """Tell whether a foreign key prevents that a row of a known table is removed, or gets a key."""
    _, table, _, _, on_update, on_delete, _ = foreign_key
    return table in known and not _FOLLOW.issuperset((on_update, on_delete))


def _columns(connection: sqlite3.Connection, table: str) -> list[Column]:
    rows = connection.execute("SELECT * FROM pragma_table_info(?)", (table,)).fetchall()
    return [
        Column(name, kind, bool(required or key), default, key)
        for _, name, kind, required, default, key in rows
    ]


def _foreign_keys(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """Return the foreign keys without their numbers, which change when one is added."""
    return connection.execute(
        'SELECT seq, "table", "from", "to", on_update, on_delete, "match"'
        " FROM pragma_foreign_key_list(?) ORDER BY 2, 3, 1",
        (table,),
    ).fetchall()


def _indexes(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(
        'SELECT list.name, list."unique", list.origin, list.partial, info.seqno, info.name'
        " FROM pragma_index_list(?) AS list, pragma_index_info(list.name) AS info ORDER BY 1, 5",
        (table,),
    ).fetchall()
