"""Brings what can still be read of a damaged database into a new one.

SQLite reads the rows, each table from both ends towards what is damaged. It is told of the tables
by a first page that is made for that, so that neither a damaged header nor a damaged schema stands
in the way; indexes are not used at all. https://sqlite.org/fileformat2.html has the file's format.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from .errors import is_damage
from .rows import Row, check
from .tables import Table, listed, tables

__all__ = ["InvalidUtf8", "Lost", "salvage", "text"]

_HEADER = 100
_PAGE = 4_096
_ROOTS = "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'"
_OWN_ENTRIES = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema"


class Lost(NamedTuple):
    """A row that was read and cannot be believed, or the end of what could be read of a table."""

    table: str
    row: Row | None
    why: str


class InvalidUtf8(NamedTuple):
    """A text that is no UTF-8."""

    raw: bytes


def text(raw: bytes) -> str | InvalidUtf8:
    """Return a text of the database, of which nothing is assumed; a connection's text_factory."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return InvalidUtf8(raw)


def salvage(damaged: Path, work: Path, into: sqlite3.Connection) -> Iterator[Lost]:
    """Copy all sound rows of `damaged` into the empty tables of `into`; yield what is lost.

    `damaged` and its log are only read. `work` names a file for a copy of them, which is removed.
    Raises OSError and sqlite3.Error where the disk does not serve.
    """
    wanted = tables(into)
    roots = {name: root for name, root in into.execute(_ROOTS) if name in wanted}
    roots |= _fold_log(damaged, work, wanted)
    _write_start(work, _first_page(work, wanted, roots))
    with closing(_connect(work)) as source:
        source.text_factory = text
        for table in wanted.values():
            yield from _copy(source, into, table)
    work.unlink()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    # Entries of the schema that make no sense are then passed over, and not an error of all.
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA synchronous = OFF")
    connection.text_factory = bytes
    return connection


def _copy(source: sqlite3.Connection, into: sqlite3.Connection, table: Table) -> Iterator[Lost]:
    names = [column.name for column in table.columns]
    insert = table.insertion()
    for values in _read(source, table):
        if isinstance(values, Lost):
            yield values
            continue
        row = dict(zip(names, values, strict=True))
        why = check(table, row)
        if why is None:
            why = _put(into, insert, values)
        if why:
            yield Lost(table.name, row, why)


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
    key_index = [column.name for column in table.columns].index(table.key)
    for row in source.execute(table.selection(order=order)):
        key = row[key_index]
        if order == "DESC" and key in seen:
            return
        if key is None or key in seen:
            raise sqlite3.DatabaseError("its pages lead astray")
        seen.add(key)
        yield row


def _fold_log(damaged: Path, work: Path, wanted: Mapping[str, Table]) -> dict[str, int]:
    """Copy the database to `work`, merged with its log; return where it says its tables begin."""
    work.touch()
    with suppress(FileNotFoundError):
        shutil.copyfile(damaged, work)
    with suppress(FileNotFoundError):
        shutil.copyfile(_with_suffix(damaged, "-wal"), _with_suffix(work, "-wal"))
    header = bytearray(_first_page(work, wanted, {})[:_HEADER])
    header[18:20] = b"\x02\x02"  # the versions that let SQLite look for a log
    _write_start(work, header)
    roots: dict[str, int] = {}
    with _skip_damage(), closing(_connect(work)) as connection:
        with _skip_damage():
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for entry in connection.execute(_OWN_ENTRIES):
            roots |= _root(entry, wanted)
    for suffix in ("-wal", "-shm"):
        _with_suffix(work, suffix).unlink(missing_ok=True)
    return roots


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


def _first_page(work: Path, wanted: Mapping[str, Table], roots: Mapping[str, int]) -> bytes:
    """Return a first page, of a database as large as `work`, with tables at `roots`."""
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
    pages = max(-(-work.stat().st_size // _PAGE), 2)
    page[28:32] = pages.to_bytes(4, "big")
    return bytes(page)


def _plain_statement(table: Table) -> str:
    """Return the statement for a table of which nothing but the rows is to be read."""
    columns = [
        f'"{column.name}" {column.type}'
        + (" PRIMARY KEY" if column.key and not table.without_rowid else "")
        + (f" DEFAULT {column.default}" if column.default else "")
        for column in table.columns
    ]
    if not table.without_rowid:
        return f'CREATE TABLE "{table.name}" ({", ".join(columns)})'
    keys = sorted((c for c in table.columns if c.key), key=lambda column: column.key)
    columns.append(f"PRIMARY KEY ({listed(key.name for key in keys)})")
    return f'CREATE TABLE "{table.name}" ({", ".join(columns)}) WITHOUT ROWID'


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
