"""Sees to it that there is a state to open: whole, sound, and for its owner alone.

A database gets its name when it is complete, so a file of that name that holds none is damaged.
What is damaged is brought into a new one, as far as it can be believed, and kept beside it as it
was. That may be interrupted at any step: until the new one is whole the old one stands where it
stood, and from then on the next start carries on.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from ...core.errors import DownloaderError, ErrorCode
from ..messages import record_metadata
from ..migrations import Schema
from .errors import Damage
from .inspection import create, open_sound
from .losses import Losses
from .remains import open_remains
from .rows import reconcile
from .salvage import salvage
from .sealing import seal, unseal
from .state_format import Format

__all__ = ["DAMAGE_KEY", "make_directory", "make_private", "open_state"]

log = logging.getLogger(__name__)

DAMAGE_KEY = "damage"
"""The note with what is to be told of damage, as JSON text."""

_KEPT = 5
"""How many damaged states are kept; a disk that goes on failing must not fill itself up."""

_LONGEST_MESSAGE = 20_000

_COUNTED = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
_NUMBER_BITS = 48  # a JSON number keeps 53

_OURS = ("state.", "lock", "s5cmd-", "salvage")


def make_directory(directory: Path) -> None:
    """Make a directory for its owner alone, and those above it, if need be. Raises OSError."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir(0o700)
        directory.chmod(0o700)  # whatever the umask took


def make_private(directory: Path) -> None:
    """Let nobody but its owner into the directory of the state, and into the files of it.

    A directory that holds other things too keeps its mode. Raises OSError.
    """
    entries = list(directory.iterdir())
    if all(entry.name.startswith(_OURS) for entry in entries):
        _restrict(directory.resolve(), 0o700)
    for entry in entries:
        if entry.name.startswith(("state.", "lock")) and entry.is_file():
            _restrict(entry, 0o600)


def _restrict(path: Path, mode: int) -> None:
    if path.stat().st_mode & 0o777 != mode and not path.is_symlink():
        try:
            path.chmod(mode)
        except PermissionError as error:
            log.warning("%s can be read by others, and its mode not changed: %s", path, error)


def open_state(directory: Path, schema: Schema) -> tuple[sqlite3.Connection, Path | None]:
    """Return a connection to the state in `directory`, and the damaged one if it was set aside.

    Raises OSError and sqlite3.OperationalError where the disk does not serve, INVALID_STATE for a
    state of a newer downloader that cannot be worked on, INTERNAL_ERROR where nothing helps but a
    person.
    """
    path, work = directory / "state.db", directory / "salvage"
    damaged = _install_salvaged(path)
    shutil.rmtree(work, ignore_errors=True)
    if not path.exists() and not _has_content(_with_suffix(path, "-wal")):
        _install_new(path, work, schema)
    try:
        return open_sound(path, schema), damaged
    except Damage as damage:
        damaged = _mend(path, work, schema, damage)
    try:
        return open_sound(path, schema), damaged
    except Damage as damage:
        raise DownloaderError(
            ErrorCode.INTERNAL_ERROR,
            f"the state in {directory} is damaged again at once ({damage}); see to the disk, or"
            f" move {path} away to begin with an empty state",
        ) from damage


def _install_new(path: Path, work: Path, schema: Schema) -> None:
    make_directory(work)
    made = work / path.name
    _make_file(made)
    create(made, schema.tables, Format.of(schema)).close()
    _sync(made)
    made.replace(path)
    _sync(path.parent)
    work.rmdir()


def _mend(path: Path, work: Path, schema: Schema, damage: Damage) -> Path:
    """Bring what can be believed of a damaged state into a new one; return where the old one is."""
    stamp = time.time_ns()
    damaged = path.with_name(f"state.damaged-{stamp}.db")
    make_directory(work)
    made, losses = work / path.name, Losses(last_changes=damage.last_changes)
    _make_file(made)
    with open_remains(path, work / "source.db", schema) as remains:
        log.error("the state is damaged (%s): set aside as %s", damage, damaged)
        with closing(create(made, remains.layout.statements, remains.format)) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN")
            salvage(remains, connection, schema, losses)
            reconcile(connection, losses.tables)
            _randomize_sequences(connection)
            message = (
                f"the state was damaged ({damage}) and is set aside as {damaged};"
                f" {losses.sentence()}"
            )
            _record_damage(connection, message)
            connection.execute("COMMIT")
    log.error("%s", message)
    report = work / "lost.jsonl"
    _make_file(report)
    losses.write(report)
    for file in (made, report):
        _sync(file)
    report.replace(path.with_name(f"state.damaged-{stamp}.lost.jsonl"))
    made.replace(path.with_name(f"state.salvaged-{stamp}.db"))
    _sync(path.parent)  # from here on the new one counts
    _install_salvaged(path)
    shutil.rmtree(work, ignore_errors=True)
    return damaged


def _randomize_sequences(connection: sqlite3.Connection) -> None:
    """Let no number come again that a lost row may have had: staged files are named by them."""
    counted = [name for (name,) in connection.execute(_COUNTED)]
    connection.execute("DELETE FROM sqlite_sequence")
    connection.executemany(
        "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)",
        [(name, secrets.randbits(_NUMBER_BITS)) for name in counted],
    )


def _install_salvaged(path: Path) -> Path | None:
    """Let a salvaged state that is whole take the place of the damaged one, which is set aside."""
    damaged = None
    for salvaged in sorted(path.parent.glob("state.salvaged-*.db")):
        stamp = salvaged.stem.rpartition("-")[2]
        damaged = path.with_name(f"state.damaged-{stamp}.db")
        for suffix in ("", "-wal"):  # the new one must never meet the old one's log
            if (part := _with_suffix(path, suffix)).exists():
                part.replace(_with_suffix(damaged, suffix))
        _with_suffix(path, "-shm").unlink(missing_ok=True)
        _sync(path.parent)
        salvaged.replace(path)
        _sync(path.parent)
        _forget_oldest(path.parent)
    return damaged


def _forget_oldest(directory: Path) -> None:
    stamps = sorted({p.name.split(".")[1] for p in directory.glob("state.damaged-*.db")})
    for stamp in stamps[:-_KEPT]:
        for part in directory.glob(f"state.{stamp}.*"):
            part.unlink()


def _record_damage(connection: sqlite3.Connection, message: str) -> None:
    """Note what is to be told, before what could not be told yet of earlier damage."""
    query = "SELECT body FROM notes WHERE name = ?"
    for (earlier,) in connection.execute(query, (DAMAGE_KEY,)).fetchall():
        message = f"{message}; before that: {msgspec.json.decode(unseal(earlier), type=str)}"
    body = seal(DAMAGE_KEY, msgspec.json.encode(message[:_LONGEST_MESSAGE]))
    record_metadata(connection, DAMAGE_KEY, body)


def _make_file(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # whatever the umask took
    os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _with_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
