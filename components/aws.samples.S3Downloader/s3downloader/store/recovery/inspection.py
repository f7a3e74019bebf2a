"""Opens a database that is sound, brought to the present version, or says what is wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ...core.errors import DownloaderError, ErrorCode
from . import rows
from .errors import Damage, is_damage
from .salvage import text
from .tables import shape, tables
from .wal import check_log

__all__ = ["create", "open_sound"]

_HEADER = 100
_MAGIC = b"SQLite format 3\0"
_FRACTIONS = b"\x40\x20\x20"


def create(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Return a connection to a new, empty database. Its caller is to close and to sync it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(f"BEGIN; {schema}; PRAGMA user_version = {version}; COMMIT")
    return connection


def open_sound(path: Path, schema: str, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open the database at `path`, in the present version.

    Raises Damage for one that is not as a downloader leaves it, INVALID_STATE for one that a newer
    downloader left, sqlite3.OperationalError where the disk does not serve.
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
        _bring_up_to_date(connection, path, schema, migrations)
        _check_rows(connection)
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


def _bring_up_to_date(
    connection: sqlite3.Connection, path: Path, schema: str, migrations: Sequence[str]
) -> None:
    """Bring the state to the present version, in one transaction.

    What its tables are says which version it has, beyond what it says of itself: every step adds
    to them. Only from the true version do the steps lead to the tables of the present one.
    """
    present = len(migrations) + 1
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    wanted, found = _shape_of(schema), shape(connection)
    if found == wanted and version == present:
        return
    if version > present and _is_newer(found, wanted):
        raise DownloaderError(
            ErrorCode.INVALID_STATE,
            f"the state in {path.parent} has version {version}, and this downloader knows"
            f" {present} at most; deploy the newer one again, or choose another StateDir",
        )
    if not 1 <= version < present or not _migrate(connection, wanted, migrations[version - 1 :]):
        raise Damage(f"it has version {version}, and not the tables of such a one")
    connection.execute(f"PRAGMA user_version = {present}")
    connection.execute("COMMIT")


def _migrate(connection: sqlite3.Connection, wanted: dict[str, Any], steps: Sequence[str]) -> bool:
    """Take `steps` in a transaction, and tell whether they led to the tables that are `wanted`."""
    try:
        connection.executescript(f"BEGIN; {'; '.join(steps)}")
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return False
    return shape(connection) == wanted


def _shape_of(schema: str) -> dict[str, Any]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema)
        return shape(connection)


def _is_newer(found: dict[str, Any], known: dict[str, Any]) -> bool:
    """Tell whether tables are those of a later version: damage may change a name, and adds none."""
    return _names(found) > _names(known)


def _names(tables: dict[str, Any]) -> int:
    return sum(1 + len(table.columns) for table, *_ in tables.values())


def _check_rows(connection: sqlite3.Connection) -> None:
    connection.text_factory = text
    try:
        for table in tables(connection).values():
            names = [column.name for column in table.columns]
            for values in connection.execute(table.selection(rows.suspicious(table))):
                row = dict(zip(names, values, strict=True))
                if why := rows.check(table, row):
                    raise Damage(f"{table.name} {rows.name(row)}: {why}")
    finally:
        connection.text_factory = str
