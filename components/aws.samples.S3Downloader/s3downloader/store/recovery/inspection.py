"""Opens a sound database and migrates it to the present version. Raises Damage for others."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from ..migrations import Schema
from . import rows, state_format
from .errors import Damage, is_damage
from .rows import text
from .state_format import Format
from .tables import Shape, extends, shape, shape_of
from .wal import check_log

__all__ = ["create", "open_sound"]

log = logging.getLogger(__name__)

_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_FRACTIONS = b"\x40\x20\x20"
_MISMATCH = "but its tables, or its table `format`, are those of another version"


def create(path: Path, statements: str, format_: Format) -> sqlite3.Connection:
    """Create an empty database and return a connection to it. The caller closes and syncs it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(f"BEGIN; {statements}")
    state_format.write(connection, format_)
    connection.execute("COMMIT")
    return connection


def open_sound(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open the database at `path`. Migrate an older one; leave a newer one in its version.

    Raises Damage if the content is not what a downloader wrote, INVALID_STATE for a newer version
    that does not allow this downloader, sqlite3.OperationalError if the disk fails.
    """
    _check_header(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -2048")
        check_log(connection, path.with_name(path.name + "-wal"))
        _check_pages(connection)
        _check_version(connection, path, schema)
        _check_rows(connection, path, schema)
    except BaseException as error:
        connection.close()
        if is_damage(error):
            raise Damage(str(error)) from error
        raise
    return connection


def _check_header(path: Path) -> None:
    """Check the fields of the header that are the same in every state.

    If some of them are damaged, SQLite reports a file that is read-only, or too new. Source:
    https://sqlite.org/fileformat2.html, section 1.3.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        raise Damage("the file is missing, and its log exists") from None
    if len(header) < _HEADER:
        raise Damage(f"the file ends after {len(header)} bytes")
    versions, encoding = header[18:20], int.from_bytes(header[56:60], "big")
    if (
        not header.startswith(_MAGIC)
        or versions not in (b"\1\1", b"\2\2")
        or header[21:24] != _FRACTIONS
        or encoding != 1
    ):
        raise Damage("the header of the file is not SQLite's")


def _check_pages(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise Damage(" ".join(found.split()))


def _check_version(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Check the version of a state and its tables. Migrate an older one, in one transaction.

    The number of the version is not trusted alone: the tables must be those of that version. The
    steps lead to the tables of the present version only from the right one.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    stored = state_format.read(connection)
    wanted, found = shape_of(schema.tables), shape(connection)
    if stored == Format.of(schema) and stored.version == version and found == wanted:
        return
    if version > schema.version:
        _check_newer(path, version, stored, found, schema)
    elif not 1 <= version < schema.version or not _migrate(connection, version, schema):
        raise Damage(f"it has version {version}, {_MISMATCH}")


def _check_newer(
    path: Path, version: int, stored: Format | None, found: Mapping[str, Shape], schema: Schema
) -> None:
    """Check whether a state of a newer version allows a downloader of the present one.

    If the state does not prove that it allows it, it is refused. If it does not prove that it is
    newer, it is damaged.
    """
    known = shape_of(schema.tables)
    if stored is None and _is_newer(found, known):
        raise state_format.refusal(path, version, schema)
    if stored is None or stored.version != version:
        raise Damage(f"it has version {version}, {_MISMATCH}")
    if not stored.can_be_read(schema):
        raise state_format.refusal(path, version, schema)
    if not extends(found, known):
        raise Damage(f"it has version {version}, but lacks tables or columns of earlier versions")
    log.warning(
        "the state in %s has version %d, and this downloader knows %d: what it does not know is"
        " kept",
        *(path.parent, version, schema.version),
    )


def _migrate(connection: sqlite3.Connection, version: int, schema: Schema) -> bool:
    """Run the steps from `version` on. Return whether they led to the present tables."""
    connection.execute("BEGIN")
    try:
        for step in schema.steps[version - 1 :]:
            step.take(connection)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return False
    if shape(connection) != shape_of(schema.tables):
        return False
    state_format.write(connection, Format.of(schema))
    connection.execute("COMMIT")
    return True


def _is_newer(found: Mapping[str, Shape], known: Mapping[str, Shape]) -> bool:
    """Tell whether tables are those of a newer version. Damage may change a name, but adds none."""
    return _count_names(found) > _count_names(known)


def _count_names(tables: Mapping[str, Shape]) -> int:
    return sum(1 + len(shape.table.columns) for shape in tables.values())


def _check_rows(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Check all rows of the known tables. Columns that are not known are not checked."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.text_factory = text
    try:
        for table, *_ in shape_of(schema.tables).values():
            names = [column.name for column in table.columns]
            for values in connection.execute(table.selection(rows.suspicious(table))):
                row = dict(zip(names, values, strict=True))
                if why := rows.check(table, row):
                    what = f"{table.name} {rows.name(table.name, row)}: {why}"
                    if version > schema.version and rows.is_intact(table, row):
                        raise state_format.refusal(path, version, schema, f" ({what})")
                    raise Damage(what)
    finally:
        connection.text_factory = str
