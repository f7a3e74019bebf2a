"""Opens what is left of a damaged database, so that its rows can be read.

It works on a copy. The first page of the copy, with the header and the schema, is replaced by a new
one that describes the tables. So a damaged header or schema does no harm. Indexes are not used.
Source of the format: https://sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..migrations import Schema
from . import state_format
from .errors import is_damage
from .rows import Row, is_intact, name
from .state_format import Format
from .tables import Column, Shape, Table, extends, listed, shape, shape_of

__all__ = ["Layout", "Remains", "open_remains"]

_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_PAGE = 4_096
_LEAF = 0x0D
_ROOTS = "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'"
_OWN_ENTRIES = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema"

_SPARES = [Column(f"spare {n}", "", required=False, default=None, key=0) for n in range(4)]
"""Columns that a newer downloader may have added. A row without them has NULL there."""


class Layout(NamedTuple):
    """The tables of a state, and the SQL that creates them, in the order of their creation."""

    tables: Mapping[str, Table]
    statements: str
    triggers: Sequence[str] = ()
    """SQL of views and triggers. Create them after the rows: for these, triggers already ran."""


class Remains(NamedTuple):
    """What is left of the damaged state at `path`, and the layout and format of the new one.

    `connection` reads the rows of `tables`. Columns of these that `layout` does not have are not
    copied. `left_out` says that a newer downloader had added more than is kept.
    """

    path: Path
    connection: sqlite3.Connection
    tables: Mapping[str, Table]
    layout: Layout
    format: Format
    left_out: bool
    schema: Schema

    def check_legible(self, table: Table, row: Row, why: str) -> None:
        """Raise INVALID_STATE if the row is as a newer downloader wrote it, but not valid here.

        `why` says what is not valid.
        """
        if self.format.is_newer(self.schema) and is_intact(table, row):
            what = f" ({table.name} {name(table.name, row)}: {why})"
            raise state_format.refusal(self.path, self.format.version, self.schema, what)


class _Entries(NamedTuple):
    """What the schema of a damaged database says."""

    roots: Mapping[str, int]
    """The numbers of the tables' first pages."""
    layout: Layout | None
    """All its tables. None if the schema is not readable, or this downloader cannot work on it."""
    adds: bool
    """Whether `layout` has more than the present schema."""


@contextmanager
def open_remains(damaged: Path, work: Path, schema: Schema) -> Iterator[Remains]:
    """Open what is left of `damaged`. This file and its log are only read.

    `work` is the path of the copy, which is removed at the end. Raises INVALID_STATE for a state of
    a newer downloader that does not say that this one can work on it, OSError and sqlite3.Error if
    the disk fails.
    """
    known = {name: table for name, (table, *_) in shape_of(schema.tables).items()}
    entries = _copy_with_log(damaged, work, schema, known)
    tables: Mapping[str, Table] = entries.layout.tables if entries.layout else _with_spares(known)
    roots = {**_usual_roots(schema), **entries.roots}
    if (page := _first_page(work, tables, roots)) is None:
        tables, entries = _with_spares(known), entries._replace(layout=None)
        page = _first_page(work, tables, roots)
    assert page is not None
    _write_start(work, page)
    with closing(_connect(work)) as connection:
        stored = _read_format(connection)
        _check_allowed(damaged, stored, entries, schema)
        is_newer = stored is not None and stored.is_newer(schema)
        keeps = is_newer and entries.layout is not None
        yield Remains(
            path=damaged,
            connection=connection,
            tables=tables,
            layout=entries.layout if keeps and entries.layout else Layout(known, schema.tables),
            format=stored if keeps and stored else Format.of(schema),
            left_out=not keeps and (entries.adds or is_newer),
            schema=schema,
        )
    work.unlink()


def _check_allowed(damaged: Path, stored: Format | None, entries: _Entries, schema: Schema) -> None:
    """Raise INVALID_STATE for a state of a newer version that does not allow this downloader."""
    if stored is not None:
        if stored.is_newer(schema) and not stored.can_be_read(schema):
            raise state_format.refusal(damaged, stored.version, schema)
        return
    version = _version_in(damaged)
    if state_format.TABLE in entries.roots and (entries.adds or version > schema.version):
        why = ", and damage hides whether that is enough"
        raise state_format.refusal(damaged, version, schema, why)


def _version_in(damaged: Path) -> int:
    """Return the version in the header. 0 if there is no header."""
    with suppress(FileNotFoundError), damaged.open("rb") as file:
        header = file.read(_HEADER)
        if header.startswith(_MAGIC) and len(header) == _HEADER:
            return int.from_bytes(header[60:64], "big")
    return 0


def _read_format(connection: sqlite3.Connection) -> Format | None:
    """Return the format of the state. None if its table does not have exactly one sound row."""
    try:
        rows = connection.execute("SELECT version, body FROM format").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        return None
    sound = [format_ for row in rows if (format_ := state_format.from_row(*row))]
    return sound[0] if len(sound) == 1 else None


def _connect(work: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(work, isolation_level=None)
    # SQLite then skips invalid entries of the schema, and does not fail because of them.
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA synchronous = OFF")
    connection.text_factory = bytes
    return connection


def _usual_roots(schema: Schema) -> dict[str, int]:
    """Return the first page of each table in a state that the present version created."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema.tables)
        return dict(connection.execute(_ROOTS))


def _with_spares(known: Mapping[str, Table]) -> dict[str, Table]:
    return {
        name: table._replace(columns=[*table.columns, *_SPARES]) for name, table in known.items()
    }


def _copy_with_log(
    damaged: Path, work: Path, schema: Schema, known: Mapping[str, Table]
) -> _Entries:
    """Copy the database, merged with its log, to `work`. Return what its schema says."""
    work.touch()
    with suppress(FileNotFoundError):
        shutil.copyfile(damaged, work)
    with suppress(FileNotFoundError):
        shutil.copyfile(_with_suffix(damaged, "-wal"), _with_suffix(work, "-wal"))
    page = _first_page(work, known, {})
    assert page is not None
    header = bytearray(page[:_HEADER])
    header[18:20] = b"\x02\x02"  # file format versions: with these, SQLite reads a log
    _write_start(work, header)
    entries: list[tuple[Any, ...]] = []
    is_complete = False
    with _skip_damage(), closing(_connect(work)) as connection:
        with _skip_damage():
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        entries.extend(connection.execute(_OWN_ENTRIES))
        is_complete = True
    for suffix in ("-wal", "-shm"):
        _with_suffix(work, suffix).unlink(missing_ok=True)
    roots = {name: root for entry in entries for name, root in _root(entry, known).items()}
    layout, found = _layout(entries, schema) if is_complete else (None, {})
    if layout:
        found_at = {name: root for kind, name, _, root, _ in entries if kind == b"table"}
        roots = {name: found_at[name.encode()] for name in layout.tables}
    return _Entries(roots, layout, adds=bool(layout) and found != shape_of(schema.tables))


def _layout(
    entries: Sequence[tuple[Any, ...]], schema: Schema
) -> tuple[Layout | None, Mapping[str, Shape]]:
    """Return the layout and the shapes of the tables. None if they do not extend the schema."""
    made: dict[bytes, list[str]] = {b"table": [], b"index": [], b"trigger": [], b"view": []}
    names: set[str] = set()
    try:
        for kind, name, _, _, sql in entries:
            if sql is not None and not name.startswith(b"sqlite_"):
                made[kind].append(sql.decode())
                names.update([name.decode()] if kind == b"table" else [])
        statements = ";\n".join(made[b"table"] + made[b"index"])
        triggers = made[b"view"] + made[b"trigger"]
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(";\n".join([statements, *triggers]))
            found = shape(connection)
    except (sqlite3.Error, ValueError, AttributeError, KeyError):
        return None, {}
    if names != found.keys() or not extends(found, shape_of(schema.tables)):
        return None, {}
    tables = {name: table for name, (table, *_) in found.items()}
    return Layout(tables, statements, triggers), found


@contextmanager
def _skip_damage() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise


def _root(entry: tuple[Any, ...], wanted: Mapping[str, Table]) -> dict[str, int]:
    """Return the first page of a table by its name, from an entry of the schema.

    An entry has the name three times and the type twice, so it may be partly damaged. Empty if the
    entry is not usable.
    """
    kind, name, of_table, root, sql = entry
    if not isinstance(root, int) or root < 2 or not isinstance(sql, bytes):
        return {}
    words = sql.replace(b"(", b" ").split()
    names = [name, of_table, words[2] if len(words) > 2 else b""]
    is_table = (kind == b"table") + (words[:2] == [b"CREATE", b"TABLE"]) + (name == of_table) > 1
    found = [table for table in wanted if is_table and names.count(table.encode()) > 1]
    return dict.fromkeys(found, root)


def _write_start(path: Path, start: bytes | bytearray) -> None:
    """Overwrite the start of a file, and pad its last page."""
    with path.open("r+b") as file:
        file.write(start)
        pages = -(-file.seek(0, 2) // _PAGE)
        file.truncate(max(pages, 2) * _PAGE)


def _first_page(work: Path, wanted: Mapping[str, Table], roots: Mapping[str, int]) -> bytes | None:
    """Return a first page for a database of the size of `work`, with its tables at `roots`.

    None if one page is too small for the number of tables.
    """
    template = _with_suffix(work, "-template")
    template.unlink(missing_ok=True)
    with closing(_connect(template)) as connection:
        for table in wanted.values():
            connection.execute(_plain_statement(table))
        connection.executemany(
            "UPDATE sqlite_schema SET rootpage = ? WHERE name = ?",
            [(root, name) for name, root in roots.items()],
        )
    page = bytearray(template.read_bytes()[:_PAGE])
    template.unlink()
    if page[_HEADER] != _LEAF:
        return None
    pages = max(-(-work.stat().st_size // _PAGE), 2)
    page[28:32] = pages.to_bytes(4, "big")
    return bytes(page)


def _plain_statement(table: Table) -> str:
    """Return the statement for a table from which only rows are read: without its constraints."""
    columns = [
        f'"{column.name}" {column.type}'
        + (" PRIMARY KEY" if _is_rowid(table, column) else "")
        + (f" DEFAULT {column.default}" if column.default else "")
        for column in table.columns
    ]
    if table.without_rowid:
        columns.append(f"PRIMARY KEY ({listed(table.keys)})")
    without = " WITHOUT ROWID" if table.without_rowid else ""
    return f'CREATE TABLE "{table.name}" ({", ".join(columns)}){without}'


def _is_rowid(table: Table, column: Column) -> bool:
    """Tell whether a column is an alias of the rowid. Any other primary key has an index."""
    return [column.name] == table.keys and column.type == "INTEGER" and not table.without_rowid


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
