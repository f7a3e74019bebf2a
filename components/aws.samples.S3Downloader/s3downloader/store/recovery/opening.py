"""Opens the state. Creates it if there is none, and replaces a damaged one with a repaired one.

A new database gets its name when it is complete. So a file of that name that is not a database is
damaged. The sound rows of a damaged state are copied into a new one, and the damaged files are kept
beside it, unchanged. A repair may be interrupted at any step. Until the new state is complete, the
old one stays in its place, and the next start repairs it again. After that, the next start puts the
new state in its place.
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
"""The name of the note that has the warning of damage, as JSON text."""

_MAX_DAMAGED = 5
"""How many damaged states are kept. A disk that fails again and again must not become full."""

_LONGEST_MESSAGE = 20_000

_COUNTED = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
_NUMBER_BITS = 48  # a JSON number holds 53

_OURS = ("state.", "lock", "s5cmd-", "salvage")


def make_directory(directory: Path) -> None:
    """Make a directory and its missing parents, each with mode 0700. Raises OSError."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    with suppress(FileExistsError):
        directory.mkdir(0o700)
        directory.chmod(0o700)  # mkdir obeys the umask


def make_private(directory: Path) -> None:
    """Set the mode of the state's directory to 0700, and that of its files to 0600.

    A directory that also contains other files keeps its mode. Raises OSError.
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
            log.warning("others can read %s, and its mode cannot be changed: %s", path, error)


def open_state(directory: Path, schema: Schema) -> tuple[sqlite3.Connection, Path | None]:
    """Open the state in `directory`. Return a connection, and the damaged file if it was set aside.

    Raises OSError and sqlite3.OperationalError if the disk fails, INVALID_STATE for a state of a
    newer version that does not allow this downloader, INTERNAL_ERROR if the state is damaged again
    right after its repair.
    """
    path, work = directory / "state.db", directory / "salvage"
    damaged = _install_salvaged(path)
    shutil.rmtree(work, ignore_errors=True)
    if not path.exists() and not _has_content(_with_suffix(path, "-wal")):
        _install_new(path, work, schema)
    try:
        return open_sound(path, schema), damaged
    except Damage as damage:
        damaged = _repair(path, work, schema, damage)
    try:
        return open_sound(path, schema), damaged
    except Damage as damage:
        raise DownloaderError(
            ErrorCode.INTERNAL_ERROR,
            f"the state in {directory} is damaged again right after its repair ({damage}); check"
            f" the disk, or move {path} away to start with an empty state",
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


def _repair(path: Path, work: Path, schema: Schema, damage: Damage) -> Path:
    """Copy the sound rows of a damaged state into a new one. Return the path of the damaged one."""
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
    _sync(path.parent)  # from here on, a start uses the new state
    _install_salvaged(path)
    shutil.rmtree(work, ignore_errors=True)
    return damaged


def _randomize_sequences(connection: sqlite3.Connection) -> None:
    """Let the numbers of new rows start at random: a lost row must not have had the same number.

    Staged files are named by these numbers.
    """
    counted = [name for (name,) in connection.execute(_COUNTED)]
    connection.execute("DELETE FROM sqlite_sequence")
    connection.executemany(
        "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)",
        [(name, secrets.randbits(_NUMBER_BITS)) for name in counted],
    )


def _install_salvaged(path: Path) -> Path | None:
    """Put a salvaged state, if there is one, in the place of the damaged one.

    Returns the path at which the damaged one is kept.
    """
    damaged = None
    for salvaged in sorted(path.parent.glob("state.salvaged-*.db")):
        stamp = salvaged.stem.rpartition("-")[2]
        damaged = path.with_name(f"state.damaged-{stamp}.db")
        for suffix in ("", "-wal"):  # SQLite would apply the old log to the new database
            if (part := _with_suffix(path, suffix)).exists():
                part.replace(_with_suffix(damaged, suffix))
        _with_suffix(path, "-shm").unlink(missing_ok=True)
        _sync(path.parent)
        salvaged.replace(path)
        _sync(path.parent)
        _remove_oldest(path.parent)
    return damaged


def _remove_oldest(directory: Path) -> None:
    stamps = sorted({p.name.split(".")[1] for p in directory.glob("state.damaged-*.db")})
    for stamp in stamps[:-_MAX_DAMAGED]:
        for part in directory.glob(f"state.{stamp}.*"):
            part.unlink()


def _record_damage(connection: sqlite3.Connection, message: str) -> None:
    """Record the warning of damage, in front of an earlier one that could not be sent yet."""
    query = "SELECT body FROM notes WHERE name = ?"
    for (earlier,) in connection.execute(query, (DAMAGE_KEY,)).fetchall():
        message = f"{message}; before that: {msgspec.json.decode(unseal(earlier), type=str)}"
    body = seal(DAMAGE_KEY, msgspec.json.encode(message[:_LONGEST_MESSAGE]))
    record_metadata(connection, DAMAGE_KEY, body)


def _make_file(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # os.open obeys the umask
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
