"""The tables that a database has, and whether they are those that the schema makes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

__all__ = ["Column", "Table", "listed", "shape", "tables"]

_OWN = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"


class Column(NamedTuple):
    """A column; `default` is an SQL literal, and `key` its position in the primary key, from 1."""

    name: str
    type: str
    required: bool
    default: str | None
    key: int


class Table(NamedTuple):
    """A table; one without rowids is a tree of its primary keys."""

    name: str
    columns: Sequence[Column]
    without_rowid: bool

    @property
    def key(self) -> str:
        """The first column of the primary key."""
        return min((c for c in self.columns if c.key), key=lambda column: column.key).name

    def selection(self, condition: str = "TRUE", order: str = "ASC") -> str:
        """Return the query for all columns of the rows of which `condition` is true, by key."""
        names = listed(column.name for column in self.columns)
        by = ("ORDER BY", listed([self.key]), order)
        return " ".join(("SELECT", names, "FROM", listed([self.name]), "WHERE", condition, *by))

    def insertion(self) -> str:
        """Return the statement that puts a row in, unless one with its key is there."""
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


def listed(names: Iterable[str]) -> str:
    """Return names of tables or columns as SQL has them."""
    return ", ".join(f'"{name}"' for name in names)


def tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """Return the tables by their names, in the order in which they were made."""
    return {
        name: Table(name, _columns(connection, name), "WITHOUT ROWID" in sql.upper())
        for name, sql in connection.execute(_OWN).fetchall()
    }


def shape(connection: sqlite3.Connection) -> dict[str, Any]:
    """Return what two databases have in common that were made by the same schema."""
    return {
        name: (table, _foreign_keys(connection, name), _indexes(connection, name))
        for name, table in tables(connection).items()
    }


def _columns(connection: sqlite3.Connection, table: str) -> list[Column]:
    rows = connection.execute("SELECT * FROM pragma_table_info(?)", (table,)).fetchall()
    return [
        Column(name, kind, bool(required or key), default, key)
        for _, name, kind, required, default, key in rows
    ]


def _foreign_keys(connection: sqlite3.Connection, table: str) -> list[Any]:
    return connection.execute("SELECT * FROM pragma_foreign_key_list(?)", (table,)).fetchall()


def _indexes(connection: sqlite3.Connection, table: str) -> list[Any]:
    return connection.execute(
        'SELECT list.name, list."unique", list.origin, list.partial, info.seqno, info.name'
        " FROM pragma_index_list(?) AS list, pragma_index_info(list.name) AS info ORDER BY 1, 5",
        (table,),
    ).fetchall()
