"""Reads and writes the records of published files and of retained versions.

The key of a file's record is its absolute path. When a directory is moved or exchanged, `move`
changes the paths of all records below it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core.records import Version
from . import bodies

__all__ = [
    "Published",
    "delete",
    "delete_tree",
    "move",
    "page",
    "published",
    "put",
    "record_versions",
    "versions",
]

# The paths below a path are those between `path/` and `path0`: 0 is the character after /.
_DELETE_TREE = (
    "DELETE FROM published WHERE file = :path OR (file > :path || '/' AND file < :path || '0')"
)
_MOVE = (
    "UPDATE published SET file = :target || substr(file, length(:path) + 1)"
    " WHERE file = :path OR (file > :path || '/' AND file < :path || '0')"
)


class Published(NamedTuple):
    """The record of a published file. `file` is its absolute path.

    `inode` and `mtime_ns` show whether the file is still the same. `validator`, `sha256` and
    `checksum` are as in FileRecord. `download_id` is the download that wrote it; it is empty if a
    version before 4 of the state recorded the file.
    """

    file: str
    size: int
    validator: str
    sha256: str
    checksum: str
    inode: int
    mtime_ns: int
    download_id: str = ""


def put(connection: sqlite3.Connection, files: Sequence[Published]) -> None:
    """Record `files`, in place of earlier records of their paths.

    Columns that a newer downloader has added are kept if the file is the same, and lost if another
    file is at the path.
    """
    another = [(file.file, file.inode, file.mtime_ns) for file in files]
    connection.executemany(
        "DELETE FROM published WHERE file = ? AND (inode <> ? OR mtime_ns <> ?)", another
    )
    connection.executemany(
        "INSERT INTO published (file, size, etag, sha256, checksum, inode, mtime_ns, download_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET size = excluded.size,"
        " etag = excluded.etag, sha256 = excluded.sha256, checksum = excluded.checksum,"
        " download_id = excluded.download_id",
        files,
    )


def published(connection: sqlite3.Connection, files: Iterable[str]) -> list[Published]:
    """Return the records of `files`. Files without a record are left out."""
    sql = (
        "SELECT file, size, etag, sha256, checksum, inode, mtime_ns, download_id FROM published"
        " WHERE file = ?"
    )
    found = (connection.execute(sql, (file,)).fetchone() for file in files)
    return [Published(*row) for row in found if row]


def page(connection: sqlite3.Connection, after: str, limit: int) -> list[str]:
    """Return the first `limit` paths of published files that come after `after`, in order."""
    sql = "SELECT file FROM published WHERE file > ? ORDER BY file LIMIT ?"
    return [file for (file,) in connection.execute(sql, (after, limit))]


def delete(connection: sqlite3.Connection, files: Iterable[str]) -> None:
    """Delete the records of `files`."""
    connection.executemany("DELETE FROM published WHERE file = ?", [(file,) for file in files])


def delete_tree(connection: sqlite3.Connection, path: str) -> None:
    """Delete the records of `path` and of all files below it."""
    connection.execute(_DELETE_TREE, {"path": path})


def move(connection: sqlite3.Connection, pairs: Iterable[tuple[str, str]]) -> None:
    """Move the records of each source, and of all files below it, to its target.

    Earlier records of the target are deleted.
    """
    for source, target in pairs:
        delete_tree(connection, target)
        connection.execute(_MOVE, {"path": source, "target": target})


def versions(connection: sqlite3.Connection) -> list[Version]:
    """Return all versions in the order of their numbers."""
    rows = connection.execute("SELECT body FROM versions ORDER BY number")
    return [bodies.version(body) for (body,) in rows]


def record_versions(
    connection: sqlite3.Connection,
    changed: Iterable[Version],
    deleted: Iterable[Version],
    *,
    keeps: bool = False,
) -> None:
    """Record the `changed` versions. Delete those that are `deleted`, and the files' records there.

    With `keeps`, unknown fields of the present records are kept.
    """
    there = "SELECT body FROM versions WHERE number = ?"
    for version in changed:
        row = connection.execute(there, (version.number,)).fetchone() if keeps else None
        body = bodies.encode(str(version.number), version, before=row[0] if row else None)
        connection.execute(
            "INSERT INTO versions (number, body) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET body = excluded.body",
            (version.number, body),
        )
    for version in deleted:
        connection.execute("DELETE FROM versions WHERE number = ?", (version.number,))
        delete_tree(connection, version.path)
