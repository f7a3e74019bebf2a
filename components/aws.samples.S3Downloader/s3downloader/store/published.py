"""What has been published: files as they were, and the versions that are retained.

A file is named by its absolute path, so that what is known of it goes along when the directory
above it is exchanged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core.records import Version
from . import bodies

__all__ = [
    "Published",
    "forget",
    "forget_tree",
    "move",
    "page",
    "published",
    "put",
    "record_versions",
    "versions",
]

# What lies below a path: 0 comes after / in the order of characters.
_FORGET_TREE = (
    "DELETE FROM published WHERE file = :path OR (file > :path || '/' AND file < :path || '0')"
)
_MOVE = (
    "UPDATE published SET file = :target || substr(file, length(:path) + 1)"
    " WHERE file = :path OR (file > :path || '/' AND file < :path || '0')"
)


class Published(NamedTuple):
    """A file as it was published; its inode and time of change tell whether it still is that.

    `validator`, `sha256` and `checksum` are those of its object, as in FileRecord. `download_id`
    names the download that wrote it, and is empty where an earlier version published the file.
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
    """Remember `files`, instead of what was known at their paths.

    What a newer downloader noted of a file stays with it, and does not go to another in its place.
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
    """Return what is known of those of `files` that have been published."""
    sql = (
        "SELECT file, size, etag, sha256, checksum, inode, mtime_ns, download_id FROM published"
        " WHERE file = ?"
    )
    found = (connection.execute(sql, (file,)).fetchone() for file in files)
    return [Published(*row) for row in found if row]


def page(connection: sqlite3.Connection, after: str, limit: int) -> list[str]:
    """Return the paths of up to `limit` published files, in their order, after that one."""
    sql = "SELECT file FROM published WHERE file > ? ORDER BY file LIMIT ?"
    return [file for (file,) in connection.execute(sql, (after, limit))]


def forget(connection: sqlite3.Connection, files: Iterable[str]) -> None:
    """Forget single files."""
    connection.executemany("DELETE FROM published WHERE file = ?", [(file,) for file in files])


def forget_tree(connection: sqlite3.Connection, path: str) -> None:
    """Forget `path` and all below it."""
    connection.execute(_FORGET_TREE, {"path": path})


def move(connection: sqlite3.Connection, pairs: Iterable[tuple[str, str]]) -> None:
    """Let what is known of a source, and all below it, be known of its target alone."""
    for source, target in pairs:
        forget_tree(connection, target)
        connection.execute(_MOVE, {"path": source, "target": target})


def versions(connection: sqlite3.Connection) -> list[Version]:
    """Return all versions by their numbers."""
    rows = connection.execute("SELECT body FROM versions ORDER BY number")
    return [bodies.version(body) for (body,) in rows]


def record_versions(
    connection: sqlite3.Connection,
    changed: Iterable[Version],
    removed: Iterable[Version],
    *,
    keeps: bool = False,
) -> None:
    """Remember versions as they are now, and forget those that are there no more.

    `keeps` says that fields which are not known here are to stay.
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
    for version in removed:
        connection.execute("DELETE FROM versions WHERE number = ?", (version.number,))
        forget_tree(connection, version.path)
