"""Opens a database that is sound, brought to the present version, or says what is wrong with it."""

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
_OTHERWISE = "not the tables of such a one, or it says that it has another"


def create(path: Path, statements: str, format_: Format) -> sqlite3.Connection:
    """Return a connection to a new, empty database. Its caller is to close and to sync it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(f"BEGIN; {statements}")
    state_format.write(connection, format_)
    connection.execute("COMMIT")
    return connection


def open_sound(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open the database at `path`, in the present version or in a newer one that allows it.

    Raises Damage for one that is not as a downloader leaves it, INVALID_STATE for one of a newer
    downloader that cannot be worked on, sqlite3.OperationalError where the disk does not serve.
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
        _bring_up_to_date(connection, path, schema)
        _check_rows(connection, path, schema)
    except BaseException as error:
        connection.close()
        if is_damage(error):
            raise Damage(str(error)) from error
        raise
    return connection


def _check_header(path: Path) -> None:
    """Look at what no database of ours has otherwise, https://sqlite.org/fileformat2.html 1.3.

    Some of it SQLite would take for a file that is read-only, or too new.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        raise Damage("the file is gone, and its log is there") from None
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


def _bring_up_to_date(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Bring the state to the present version, in one transaction, unless it is of a newer one.

    What its tables are says which version it has, beyond what it says of itself. Only from the
    true version do the steps lead to the tables of the present one.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    wanted, found, said = shape_of(schema.tables), shape(connection), state_format.read(connection)
    if said == Format.of(schema) and said.version == version and found == wanted:
        return
    if version > schema.version:
        _check_newer(path, version, said, found, schema)
    elif not 1 <= version < schema.version or not _migrate(connection, version, schema):
        raise Damage(f"it has version {version}, and {_OTHERWISE}")


def _check_newer(
    path: Path, version: int, said: Format | None, found: Mapping[str, Shape], schema: Schema
) -> None:
    """Let a state of a newer version be, if it allows a downloader of the present one.

    What gives no proof that it allows it is refused; what gives none that it is newer is damaged.
    """
    known = shape_of(schema.tables)
    if said is None and _is_newer(found, known):
        raise state_format.refuse(path, version, schema)
    if said is None or said.version != version:
        raise Damage(f"it has version {version}, and {_OTHERWISE}")
    if not said.can_be_read(schema):
        raise state_format.refuse(path, version, schema)
    if not extends(found, known):
        raise Damage(f"it has version {version}, and lacks what versions before it had")
    log.warning(
        "the state in %s has version %d, and this downloader knows %d: what it does not know stays",
        *(path.parent, version, schema.version),
    )


def _migrate(connection: sqlite3.Connection, version: int, schema: Schema) -> bool:
    """Take the steps from `version` on; tell whether they led to the tables of the present one."""
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
    """Tell whether tables are those of a later version: damage may change a name, and adds none."""
    return _names(found) > _names(known)


def _names(tables: Mapping[str, Shape]) -> int:
    return sum(1 + len(shape.table.columns) for shape in tables.values())


def _check_rows(connection: sqlite3.Connection, path: Path, schema: Schema) -> None:
    """Check the rows of all tables that are known, as far as they are known."""
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
                        raise state_format.refuse(path, version, schema, f" ({what})")
                    raise Damage(what)
    finally:
        connection.text_factory = str
