"""A newer downloader than this one: the same code with another step in its migrations."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from s3downloader.store import Store
from s3downloader.store.migrations import Schema, Step, schema
from s3downloader.store.recovery.sealing import seal, unseal
from s3downloader.store.recovery.tables import tables

from .full_state import write_everything

__all__ = ["ADDS", "FIELDS", "NEWER", "add_everything", "added", "leave_newer_state"]

ADDS = """
ALTER TABLE downloads ADD COLUMN origin TEXT NOT NULL DEFAULT 'command';
ALTER TABLE files ADD COLUMN resumes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE files ADD COLUMN last_error TEXT;
ALTER TABLE answers ADD COLUMN channel TEXT NOT NULL DEFAULT 'responses';
ALTER TABLE inbox ADD COLUMN channel TEXT NOT NULL DEFAULT 'commands';
ALTER TABLE outbox ADD COLUMN device TEXT NOT NULL DEFAULT 'this';
ALTER TABLE models ADD COLUMN signature TEXT;
ALTER TABLE notes ADD COLUMN since REAL;
ALTER TABLE versions ADD COLUMN bytes INTEGER;
ALTER TABLE published ADD COLUMN signer TEXT NOT NULL DEFAULT '';
ALTER TABLE format ADD COLUMN written_by TEXT NOT NULL DEFAULT '';
CREATE INDEX files_by_resumes ON files (resumes);
CREATE TABLE jobs (
    job_id      TEXT PRIMARY KEY,
    download_id TEXT REFERENCES downloads ON DELETE CASCADE ON UPDATE CASCADE,
    body        BLOB
);
CREATE TABLE marks (
    place TEXT NOT NULL,
    day   INTEGER NOT NULL,
    mark  TEXT NOT NULL,
    PRIMARY KEY (place, day)
) WITHOUT ROWID;
CREATE TABLE log (number INTEGER PRIMARY KEY AUTOINCREMENT, said TEXT NOT NULL);
CREATE TRIGGER forgotten AFTER DELETE ON downloads BEGIN
    INSERT INTO log (said) VALUES (old.download_id);
END
"""
"""Adds a column to each table, tables, an index and a trigger."""

NEWER = Schema(f"{schema().tables}; {ADDS}", (*schema().steps, Step(ADDS, schema().version)))
"""The schema of the newer downloader, which allows this one to work on its states."""

_VALUES = """
UPDATE downloads SET origin = 'job of ' || download_id;
UPDATE files SET resumes = number, last_error = 'once';
UPDATE answers SET channel = 'jobs/' || command_id;
UPDATE inbox SET channel = 'jobs/' || command_id;
UPDATE outbox SET device = 'device ' || number;
UPDATE models SET signature = 'signed ' || model_id;
UPDATE notes SET since = 0.5;
UPDATE versions SET bytes = 1000 + number;
UPDATE published SET signer = 'by ' || file;
UPDATE format SET written_by = 'a newer one';
INSERT INTO jobs SELECT 'job-' || download_id, download_id, X'7B7D' FROM downloads;
INSERT INTO marks VALUES ('/data', 1, 'first'), ('/data', 2, 'second');
INSERT INTO log (said) VALUES ('made')
"""
_BODIES = (
    ("SELECT download_id, body FROM downloads", "UPDATE downloads SET body = ? WHERE body = ?"),
    ("SELECT name, body FROM notes", "UPDATE notes SET body = ? WHERE body = ?"),
    ("SELECT number, body FROM versions", "UPDATE versions SET body = ? WHERE body = ?"),
)
FIELDS = {"priority": 7, "caller": {"job": "j-1"}}
"""The fields added to each JSON text; the records in it get a field `more`."""


async def leave_newer_state(directory: Path) -> None:
    """Write a state of the newer downloader, with rows in all tables.

    All additions have values too.
    """
    await write_everything(directory)
    await Store(directory, NEWER).close()
    add_everything(directory)


def add_everything(directory: Path) -> None:
    """Write a different value to each addition of the newer downloader."""
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        connection.executescript(_VALUES)
        for query, update in _BODIES:
            for key, sealed in connection.execute(query).fetchall():
                body = msgspec.json.decode(unseal(sealed))
                if isinstance(body, dict):
                    _add_fields(body)
                    connection.execute(update, (seal(str(key), msgspec.json.encode(body)), sealed))
        connection.commit()


def _add_fields(body: dict[str, Any]) -> None:
    body |= FIELDS
    for name in ("options", "failure", "exchange", "rollback"):
        if isinstance(body.get(name), dict):
            body[name] |= {"more": f"of {name}"}


def added(directory: Path) -> dict[str, Any]:
    """Return the values of all columns, tables and fields that this downloader does not know."""
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        old = _columns(schema().tables)
        for name, table in tables(connection).items():
            columns = [column.name for column in table.columns]
            for row in connection.execute(table.selection()):
                values = dict(zip(columns, row, strict=True))
                key = " ".join(str(values[key]) for key in table.keys)
                more = {c: v for c, v in values.items() if c not in old.get(name, ())}
                more |= _unknown_fields(name, values)
                found[f"{name} {key}"] = more
    return found


def _unknown_fields(table: str, values: dict[str, Any]) -> dict[str, Any]:
    if table not in ("downloads", "notes", "versions"):
        return {}
    body = msgspec.json.decode(unseal(values["body"]))
    if not isinstance(body, dict):
        return {}
    inner = {
        f"{name}.more": value["more"]
        for name, value in body.items()
        if isinstance(value, dict) and "more" in value
    }
    return {name: body[name] for name in FIELDS if name in body} | inner


def _columns(statements: str) -> dict[str, set[str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(statements)
        return {
            name: {column.name for column in table.columns}
            for name, table in tables(connection).items()
        }
