"""Opens what is left of a damaged database, so that its rows can be read.

SQLite is told of the tables by a first page that is made for that, so that neither a damaged header
nor a damaged schema stands in the way; indexes are not used at all.
https://sqlite.org/fileformat2.html has the file's format.
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
"""Stand for columns that a newer downloader may have added: rows without them have NULL there."""


class Layout(NamedTuple):
    """How the tables of a state are made, in the order in which that is possible."""

    tables: Mapping[str, Table]
    statements: str
    triggers: Sequence[str] = ()
    """To be made once the rows are there: they were carried out for them before."""


class Remains(NamedTuple):
    """What is left of the state at `path`: rows to read, and what a new one is to be like.

    `tables` are those to read. Where they have columns that those of `layout` have not, what is in
    these is left out. `left_out` says that a newer downloader had added more than is kept.
    """

    path: Path
    connection: sqlite3.Connection
    tables: Mapping[str, Table]
    layout: Layout
    format: Format
    left_out: bool
    schema: Schema

    def check_legible(self, table: Table, row: Row, why: str) -> None:
        """Refuse a state with a row that is as a newer downloader wrote it, and not believed."""
        if self.format.is_newer(self.schema) and is_intact(table, row):
            what = f" ({table.name} {name(table.name, row)}: {why})"
            raise state_format.refuse(self.path, self.format.version, self.schema, what)


class _Entries(NamedTuple):
    """What the schema of a damaged database says."""

    roots: Mapping[str, int]
    layout: Layout | None
    """That of all its tables, where it is legible and a downloader of today can work on them."""
    adds: bool
    """Whether that has more than the schema of today."""


@contextmanager
def open_remains(damaged: Path, work: Path, schema: Schema) -> Iterator[Remains]:
    """Open what is left of `damaged`, which is only read, as its log is.

    `work` names a file for a copy of them, which is removed. Raises INVALID_STATE for a state of a
    newer downloader that does not say that it can be worked on, OSError and sqlite3.Error where
    the disk does not serve.
    """
    known = {name: table for name, (table, *_) in shape_of(schema.tables).items()}
    entries = _fold_log(damaged, work, schema, known)
    tables: Mapping[str, Table] = entries.layout.tables if entries.layout else _with_spares(known)
    roots = {**_usual_roots(schema), **entries.roots}
    if (page := _first_page(work, tables, roots)) is None:
        tables, entries = _with_spares(known), entries._replace(layout=None)
        page = _first_page(work, tables, roots)
    assert page is not None
    _write_start(work, page)
    with closing(_connect(work)) as connection:
        said = _said(connection)
        _check_allowed(damaged, said, entries, schema)
        keeps = said is not None and said.is_newer(schema) and entries.layout is not None
        yield Remains(
            path=damaged,
            connection=connection,
            tables=tables,
            layout=entries.layout if keeps and entries.layout else Layout(known, schema.tables),
            format=said if keeps and said else Format.of(schema),
            left_out=not keeps and (entries.adds or (said is not None and said.is_newer(schema))),
            schema=schema,
        )
    work.unlink()


def _check_allowed(damaged: Path, said: Format | None, entries: _Entries, schema: Schema) -> None:
    """Refuse a state of a newer downloader that cannot be worked on, or does not say whether."""
    if said is not None:
        if said.is_newer(schema) and not said.can_be_read(schema):
            raise state_format.refuse(damaged, said.version, schema)
        return
    version = _version_in(damaged)
    if state_format.TABLE in entries.roots and (entries.adds or version > schema.version):
        why = ", and it is damaged where it says whether that is enough"
        raise state_format.refuse(damaged, version, schema, why)


def _version_in(damaged: Path) -> int:
    """Return the version in the header, 0 where there is no header."""
    with suppress(FileNotFoundError), damaged.open("rb") as file:
        header = file.read(_HEADER)
        if header.startswith(_MAGIC) and len(header) == _HEADER:
            return int.from_bytes(header[60:64], "big")
    return 0


def _said(connection: sqlite3.Connection) -> Format | None:
    """Return what the table of the format says, if there is one row to believe."""
    try:
        rows = connection.execute("SELECT version, body FROM format").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        return None
    believed = [said for row in rows if (said := state_format.believe(*row))]
    return believed[0] if len(believed) == 1 else None


def _connect(work: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(work, isolation_level=None)
    # Entries of the schema that make no sense are then passed over, and not an error of all.
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA synchronous = OFF")
    connection.text_factory = bytes
    return connection


def _usual_roots(schema: Schema) -> dict[str, int]:
    """Return where the tables begin in a state that was made in the present version."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema.tables)
        return dict(connection.execute(_ROOTS))


def _with_spares(known: Mapping[str, Table]) -> dict[str, Table]:
    return {
        name: table._replace(columns=[*table.columns, *_SPARES]) for name, table in known.items()
    }


def _fold_log(damaged: Path, work: Path, schema: Schema, known: Mapping[str, Table]) -> _Entries:
    """Copy the database to `work`, merged with its log; return what its schema says."""
    work.touch()
    with suppress(FileNotFoundError):
        shutil.copyfile(damaged, work)
    with suppress(FileNotFoundError):
        shutil.copyfile(_with_suffix(damaged, "-wal"), _with_suffix(work, "-wal"))
    page = _first_page(work, known, {})
    assert page is not None
    header = bytearray(page[:_HEADER])
    header[18:20] = b"\x02\x02"  # the versions that let SQLite look for a log
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
        roots = {name.decode(): root for kind, name, _, root, _ in entries if kind == b"table"}
    return _Entries(roots, layout, adds=bool(layout) and found != shape_of(schema.tables))


def _layout(
    entries: Sequence[tuple[Any, ...]], schema: Schema
) -> tuple[Layout | None, Mapping[str, Shape]]:
    """Return how the tables were made, and what they are, if they extend those of the schema."""
    made: dict[bytes, list[str]] = {b"table": [], b"index": [], b"trigger": [], b"view": []}
    try:
        for kind, name, _, _, sql in entries:
            if sql is not None and not name.startswith(b"sqlite_"):
                made[kind].append(sql.decode())
        statements = ";\n".join(made[b"table"] + made[b"index"])
        triggers = made[b"view"] + made[b"trigger"]
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(";\n".join([statements, *triggers]))
            found = shape(connection)
    except (sqlite3.Error, ValueError, AttributeError, KeyError):
        return None, {}
    if not extends(found, shape_of(schema.tables)):
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
    """Return the page at which a table begins, from its entry in the schema, or nearly so.

    The name stands there three times, so that it is known though one of them is damaged.
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
    """Write the start of a file over, and fill its last page up."""
    with path.open("r+b") as file:
        file.write(start)
        pages = -(-file.seek(0, 2) // _PAGE)
        file.truncate(max(pages, 2) * _PAGE)


def _first_page(work: Path, wanted: Mapping[str, Table], roots: Mapping[str, int]) -> bytes | None:
    """Return a first page, of a database as large as `work`, with tables at `roots`.

    None where one page is not enough for so many tables.
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
    """Return the statement for a table of which nothing but the rows is to be read."""
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
    """Tell whether a column is another name of the rowid; any other key has an index."""
    return [column.name] == table.keys and column.type == "INTEGER" and not table.without_rowid


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
