"""Checks whether a row of the state can be what a downloader wrote."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...core.decoding import DECODE_ERRORS
from ...core.records import STAGING, State
from .. import bodies
from . import sealing, state_format
from .sealing import is_sealed, message_key, unseal
from .tables import Column, Table

__all__ = [
    "InvalidUtf8",
    "LeftOut",
    "Lost",
    "Row",
    "check",
    "is_intact",
    "name",
    "reconcile",
    "suspicious",
    "text",
]

Row = Mapping[str, Any]
"""The values of a row by the names of its columns."""


class Lost(NamedTuple):
    """A row that is not sound or, if `row` is None, a part of a table that cannot be read."""

    table: str
    row: Row | None
    why: str


class LeftOut(NamedTuple):
    """A row that is kept without the columns that a newer downloader had added."""

    table: str
    row: Row
    why: str = "what a newer downloader had added is left out"


class InvalidUtf8(NamedTuple):
    """A text that is not UTF-8."""

    raw: bytes


def text(raw: bytes) -> str | InvalidUtf8:
    """Decode a text of the database, which may be damaged. Used as a connection's text_factory."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return InvalidUtf8(raw)


_STORED_AS: dict[str, type] = {"TEXT": str, "INTEGER": int, "REAL": float, "BLOB": bytes}
_KEYS = {
    "downloads": "download_id",
    "files": "download_id",
    "models": "model_id",
    "notes": "name",
    "versions": "number",
    "answers": "command_id",
    "inbox": "command_id",
    "outbox": "number",
    "published": "file",
    state_format.TABLE: "version",
}
"""The columns by which messages and reports name rows."""

_BODIES = {
    "downloads": "body",
    "models": "body",
    "notes": "body",
    "versions": "body",
    "answers": "response",
    "inbox": "payload",
    "outbox": "payload",
    state_format.TABLE: "body",
}
"""The columns with a sealed JSON text."""


_LONG = {
    "files": "size < 0 OR number < 1 OR attempts < 0 OR done NOT IN (0, 1)"
    " OR skipped NOT IN (0, 1) OR instr(path, '..')",
    "published": "size < 0 OR instr(file, '..')",
}
_TYPE_OF = {"TEXT": "text", "INTEGER": "integer", "REAL": "real", "BLOB": "blob"}
_DOWNLOADS = "SELECT download_id, body FROM downloads"


class _Impossible(ValueError):
    pass


def check(table: Table, row: Row) -> str | None:
    """Return why a row of `table` cannot be what was written. None if it is sound.

    The row may have more columns than the table. Of these, only the encoding of texts is checked.
    """
    try:
        invalid = [name for name, value in row.items() if isinstance(value, InvalidUtf8)]
        _require(not invalid, f"{', '.join(invalid)} is not UTF-8")
        for column in table.columns:
            _check_type(column, row[column.name])
        if body := _BODIES.get(table.name):
            _check_body(table, row, body)
        if specific := _CHECKS.get(table.name):
            specific(row)
    except (_Impossible, *DECODE_ERRORS) as error:
        return str(error)
    return None


def is_intact(table: Table, row: Row) -> bool:
    """Tell whether a row has a text whose checksum matches: then a downloader wrote it so."""
    body = row.get(_BODIES.get(table.name, ""))
    return isinstance(body, bytes) and sealing.is_intact(_sealed_with(table, row), body)


def suspicious(table: Table) -> str:
    """Return an SQL condition that selects the rows that `check` must check.

    In tables that may be long, SQLite itself does the simple checks, which is faster. In the others
    all rows are selected.
    """
    if table.name not in _LONG:
        return "TRUE"
    terms = [_LONG[table.name]]
    for column in table.columns:
        stored = _TYPE_OF.get(column.type, "")
        allowed = f"'{stored}'" if column.required else f"'{stored}', 'null'"
        terms.append(f'typeof("{column.name}") NOT IN ({allowed})')
        if stored == "text":  # a text that is not printable ASCII may be invalid UTF-8
            terms.append(f"\"{column.name}\" GLOB '*[^ -~]*'")
    return " OR ".join(terms)


def reconcile(connection: sqlite3.Connection, damaged: Container[str]) -> None:
    """Adapt a salvaged state to what was lost. `damaged` are the tables with losses.

    A download that was publishing file by file is queued, to plan again: its list of files may be
    incomplete, and an incomplete model must not be published. Its staged files still count. If
    models are lost, the recorded shadow is deleted too. Otherwise the models would look as if they
    had been deleted on the device, and would also be deleted from the shadow.
    """
    if "models" in damaged:
        connection.execute("DELETE FROM notes WHERE name = 'shadow'")
    for download_id, body in connection.execute(_DOWNLOADS).fetchall():
        download = bodies.download(body)
        if download.state is State.PUBLISHING and not download.exchange:
            again = msgspec.structs.replace(download, state=State.QUEUED)
            sealed = bodies.encode(download_id, again, before=body)
            connection.execute(
                "UPDATE downloads SET body = ? WHERE download_id = ?", (sealed, download_id)
            )


def name(table: str, row: Row) -> str:
    """Return the name of a row for messages and reports, as in _KEYS."""
    return str(row.get(_KEYS.get(table, ""), ""))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Impossible(otherwise)


def _check_type(column: Column, value: Any) -> None:
    if value is None and not column.required:
        return
    stored_as = _STORED_AS.get(column.type, object)
    _require(isinstance(value, stored_as), f"{column.name} is not of type {column.type}")


def _check_body(table: Table, row: Row, column: str) -> None:
    """Check the seal of a JSON text or, if an early downloader wrote it without one, its syntax."""
    text = row[column]
    if is_sealed(text):
        _require(is_intact(table, row), f"the checksum of {column} is wrong")
    else:
        text.decode()  # because Raw does not check the encoding
        msgspec.json.decode(text, type=msgspec.Raw)


def _sealed_with(table: Table, row: Row) -> str:
    """Return the key for the seal of a row's text."""
    if table.name == "outbox":
        return message_key(str(row["channel"]))  # damage may have left something else there
    return name(table.name, row)


def _check_download(row: Row) -> None:
    download = bodies.download(row["body"])
    _require(download.download_id == row["download_id"], "it has another download_id")
    _require(download.created_at == row["created_at"], "it was created at another time")
    times = (download.created_at, download.updated_at, download.seconds, download.active_seconds)
    _require(all(map(math.isfinite, times)) and min(times) >= 0, "a time is impossible")
    counts = (
        *(download.bytes_done, download.bytes_total, download.files_done, download.files_total),
        *(download.checksums_verified, download.plan, download.options.keep_versions),
    )
    _require(min(counts) >= 0, "a number is negative")
    _require(_is_plain(download.destination), "its destination is not an absolute path")
    staging, destination = Path(download.staging), Path(download.destination)
    _require(
        _is_plain(download.staging)
        and staging.parent.name == STAGING
        and destination.is_relative_to(staging.parent.parent),
        "its staging folder does not belong to its destination",
    )
    if download.exchange:
        retained = Path(download.exchange.version_dir, Path(download.target).name)
        _require(
            _is_version_path(retained, Path(download.target)),
            "its version directory does not belong to its target",
        )
    began = download.publish_began or download.state not in (State.PUBLISHING, State.COMPLETED)
    _require(began, f"it is {download.state.value}, but never began to publish")


def _check_version(row: Row) -> None:
    version = bodies.version(row["body"])
    _require(version.number == row["number"], "it has another number")
    retained, target = Path(version.path), Path(version.target)
    _require(
        _is_plain(version.target) and _is_version_path(retained, target),
        "its path does not belong to its target",
    )


def _check_model(row: Row) -> None:
    model = msgspec.json.decode(unseal(row["body"]), type=dict[str, Any])
    known = model.get("model_id", row["model_id"]) == row["model_id"]
    _require(known, "it has another model_id")


def _check_file(row: Row) -> None:
    _require(row["number"] > 0, "its number is not positive")
    _require(row["size"] >= 0 and row["attempts"] >= 0, "a number is negative")
    _require(row["done"] in (0, 1), "done is neither 0 nor 1")
    _require(row["skipped"] in (0, 1), "skipped is neither 0 nor 1")
    parts = row["path"].split("/")
    _require(not {"", ".", "..", STAGING} & set(parts), "its path is not below the destination")


def _check_message(row: Row) -> None:
    _require(row["number"] > 0, "its number is not positive")


def _check_published(row: Row) -> None:
    _require(_is_plain(row["file"]) and row["size"] >= 0, "its path or size is invalid")


def _check_format(row: Row) -> None:
    _require(
        state_format.from_row(row["version"], row["body"]) is not None, "it has no valid format"
    )


def _is_version_path(retained: Path, target: Path) -> bool:
    """Tell whether `retained` is a path at which a version of `target` is retained."""
    plain = _is_plain(str(retained)) and retained.name == target.name
    return plain and retained.parents[2:3] == (target.parent / STAGING,)


def _is_plain(path: str) -> bool:
    """Tell whether a path is absolute, without empty parts, `.` and `..`."""
    detours = {"", ".", ".."} & set(path[1:].split("/"))
    return path == "/" or (path.startswith("/") and not detours)


_CHECKS: dict[str, Callable[[Row], None]] = {
    "downloads": _check_download,
    "files": _check_file,
    "models": _check_model,
    "versions": _check_version,
    "published": _check_published,
    "inbox": _check_message,
    "outbox": _check_message,
    state_format.TABLE: _check_format,
}
