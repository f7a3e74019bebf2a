"""Recorded states of a device from released versions, with the files that belong to them.

`python -m tests.e2e.record` records one of the present version. `version-N.sql` is the database as
SQL, with `/recorded` in place of the device's own folder. `version-N.tar.xz` has the files in
`/recorded/downloads`: published, retained and staged ones. `version-N.json` says how much of each
unfinished download has arrived and been synced.

`restore` can put a state into any folder, at any time, with any object server.
"""

from __future__ import annotations

import random
import sqlite3
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from s3downloader.store.recovery.sealing import seal, unseal
from sandbox.servers import ObjectServer

__all__ = [
    "OBJECTS",
    "PLACE",
    "PREFIX",
    "Arrived",
    "arrived",
    "content",
    "files_of",
    "objects_of",
    "put_objects",
    "restore",
    "rewrite",
    "version_in",
]

MiB = 1 << 20
STATES = Path(__file__).parent.parent / "store" / "states"
PLACE = "/recorded"
"""The path of the device's folder in a recorded state."""

PREFIX = "recorded/"
"""The prefix of all keys."""

_MODEL = ("weights", "tokenizer", "config")
_MODEL_BYTES = 3_000
OBJECTS = {
    **{f"vlm/{version}/{name}": _MODEL_BYTES for version in ("v1", "v2", "v3") for name in _MODEL},
    "single": 20_000,
    "paused/large": 3 * MiB,
    "paused/small": 1_000,
    "failed/large": MiB,
    "failed/late": MiB // 2,
    "first/large": 2 * MiB,
    "waiting/large": 2 * MiB,
    "running/arrived": MiB // 2,
    "running/large": 4 * MiB,
    "running/missing": 2_000,
    "queued": MiB // 2,
    "overdue": MiB // 2,
    **{f"many/{n:03}": 1 for n in range(100)},
}
"""The sizes of all objects, by their keys without PREFIX."""

_PERIOD = 1_021
_TEXTS = (
    ("SELECT download_id, body FROM downloads", "UPDATE downloads SET body = ? WHERE body = ?"),
    ("SELECT model_id, body FROM models", "UPDATE models SET body = ? WHERE body = ?"),
    ("SELECT number, body FROM versions", "UPDATE versions SET body = ? WHERE body = ?"),
    (
        "SELECT command_id, response FROM answers",
        "UPDATE answers SET response = ? WHERE response = ?",
    ),
    ("SELECT command_id, payload FROM inbox", "UPDATE inbox SET payload = ? WHERE payload = ?"),
    ("SELECT '', payload FROM outbox", "UPDATE outbox SET payload = ? WHERE payload = ?"),
)
"""Queries for the JSON texts with what goes into their checksums, and updates that change them."""


class Arrived(NamedTuple):
    """A download's state, the size of its objects, and the bytes that survive a loss of power."""

    state: str
    size: int
    arrived: int


def content(key: str, size: int) -> bytes:
    """Return the content of an object. It compresses well, and differs for each key."""
    period = random.Random(key).randbytes(_PERIOD)
    return (period * (size // _PERIOD + 1))[:size]


async def put_objects(server: ObjectServer) -> None:
    """Write all objects to the server, each with the ETag that it had."""
    for name, size in OBJECTS.items():
        await server.put(PREFIX + name, content(name, size))


def arrived(version: int) -> dict[str, Arrived]:
    """Return how much of each unfinished download of a state has arrived, by download ID."""
    text = (STATES / f"version-{version}.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Arrived])


def objects_of(download_id: str) -> dict[str, bytes]:
    """Return the contents of a download's objects, by their keys without PREFIX."""
    mine = (name for name in OBJECTS if name.split("/")[0] == download_id)
    return {name: content(name, OBJECTS[name]) for name in mine}


def files_of(downloads: Path, download_id: str) -> dict[str, bytes]:
    """Return the published files of a download, by the same names.

    `downloads` is the device's DownloadDir.
    """
    place = downloads / download_id
    is_one = download_id in OBJECTS
    return {
        path.relative_to(place if is_one else downloads).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


def version_in(downloads: Path) -> str:
    """Return the version of all published files of the model `vlm`; fail if they are mixed."""
    files = files_of(downloads, "vlm")
    [version] = {
        version
        for version in ("v1", "v2", "v3")
        for name in _MODEL
        if files[f"vlm/{name}"] == content(f"vlm/{version}/{name}", _MODEL_BYTES)
    }
    return version


def restore(directory: Path, version: int) -> None:
    """Restore a state into `directory`, as if its device had stopped just now."""
    (directory / "state").mkdir(parents=True)
    with tarfile.open(STATES / f"version-{version}.tar.xz") as archive:
        archive.extractall(directory, filter="fully_trusted")  # noqa: S202
    with closing(sqlite3.connect(directory / "state" / "state.db")) as connection:
        connection.executescript((STATES / f"version-{version}.sql").read_text())
        rewrite(connection, PLACE, str(directory))
        _move_in_time(connection)
        _look_at_files(connection)
        connection.commit()


def rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    """Replace the folder `old` by `new` at the start of all paths."""
    for query, update in _TEXTS:
        for key, text in connection.execute(query).fetchall():
            moved = unseal(text).replace(old.encode(), new.encode())
            connection.execute(update, (seal(str(key), moved), text))
    connection.execute("UPDATE published SET file = replace(file, ?, ?)", (old, new))


def _move_in_time(connection: sqlite3.Connection) -> None:
    """Move all times so that the daemon seems to have ended just now.

    Otherwise old records would be deleted.
    """
    downloads = connection.execute("SELECT download_id, body FROM downloads").fetchall()
    bodies: dict[str, dict[str, Any]] = {
        name: msgspec.json.decode(unseal(body)) for name, body in downloads
    }
    passed = time.time() - max(body["updated_at"] for body in bodies.values())
    for name, body in bodies.items():
        body["created_at"] += passed
        body["updated_at"] += passed
        connection.execute(
            "UPDATE downloads SET created_at = ?, body = ? WHERE download_id = ?",
            (body["created_at"], seal(name, msgspec.json.encode(body)), name),
        )
    connection.execute("UPDATE answers SET at = at + ?", (passed,))


def _look_at_files(connection: sqlite3.Connection) -> None:
    """Record the inodes and times of the restored published files."""
    for (file,) in connection.execute("SELECT file FROM published").fetchall():
        stat = Path(file).stat()
        connection.execute(
            "UPDATE published SET inode = ?, mtime_ns = ? WHERE file = ?",
            (stat.st_ino, stat.st_mtime_ns, file),
        )
