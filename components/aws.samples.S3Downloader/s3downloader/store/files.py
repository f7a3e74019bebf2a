"""Reads and writes the records of files: which are planned, which are done, which have failed.

The columns `key` and `etag` contain the name and the validator of a file's object. They got their
names when S3 was the only source.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core.errors import DownloaderError, ErrorCode
from ..core.objects import ObjectRef
from ..core.records import FailedAttempt, FileRecord

__all__ = [
    "Item",
    "Totals",
    "mark",
    "mark_failed",
    "mark_skipped",
    "mark_unpinned_missing",
    "outdated",
    "page",
    "plan",
    "set_sha256",
    "totals",
]

_LONGEST_ERROR = 500
"""Maximum number of characters of a recorded error."""

_CODES = {code.value: code for code in ErrorCode}


class Item(NamedTuple):
    """One listed object, for the plan of a download. `path` and `sha256` as in FileRecord."""

    path: str
    object: ObjectRef
    sha256: str = ""


class Totals(NamedTuple):
    """Sums over the files of a download."""

    bytes_total: int
    files_total: int
    bytes_done: int
    files_done: int
    checksums_verified: int


def plan(
    connection: sqlite3.Connection, download_id: str, number: int, items: Sequence[Item]
) -> list[str]:
    """Add `items` to the plan `number`. Return the names of objects that have changed since a plan.

    Raises UNSAFE_KEY if two objects would become one file.
    """
    replaced = [
        item.object.name
        for item in (items if number > 1 else ())
        if _is_another(connection, download_id, number, item)
    ]
    for item in items:
        found = item.object
        (name,) = connection.execute(
            "INSERT INTO files (download_id, path, key, size, etag, modified, sha256, plan)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (download_id, path) DO UPDATE SET"
            " key = CASE plan WHEN excluded.plan THEN key ELSE excluded.key END,"
            # Weak ETags are compared without their W/, as by `validators.same`.
            " done = done AND size = excluded.size"
            " AND (excluded.etag IN (etag, 'W/' || etag) OR etag = 'W/' || excluded.etag)"
            " AND excluded.sha256 IN ('', sha256),"
            " size = excluded.size, etag = excluded.etag, modified = excluded.modified,"
            " sha256 = coalesce(nullif(excluded.sha256, ''), sha256),"
            " plan = excluded.plan RETURNING key",
            (
                *(download_id, item.path, found.name, found.size, found.validator),
                *(found.modified, item.sha256, number),
            ),
        ).fetchone()
        if name != found.name:
            raise DownloaderError(
                ErrorCode.UNSAFE_KEY,
                f"the keys {name!r} and {found.name!r} would both become the file {item.path!r};"
                " rename one of them",
                keys=[name, found.name],
            )
    return replaced


def _is_another(connection: sqlite3.Connection, download_id: str, number: int, item: Item) -> bool:
    """Tell whether an earlier plan had another object, or another version of it, at that path."""
    found = connection.execute(
        "SELECT 1 FROM files WHERE download_id = ?1 AND path = ?2 AND plan <> ?3"
        " AND (size <> ?5 OR NOT (?4 IN (etag, 'W/' || etag) OR etag = 'W/' || ?4))",
        (download_id, item.path, number, item.object.validator, item.object.size),
    )
    return found.fetchone() is not None


def outdated(connection: sqlite3.Connection, download_id: str, number: int) -> list[str]:
    """Return the paths of files that are not in the plan `number`.

    Raises UNSAFE_KEY if, in this plan, an object would become a file where another one needs a
    directory.
    """
    clash = connection.execute(
        "SELECT file.key, below.key FROM files AS file JOIN files AS below"
        " ON below.download_id = file.download_id"
        " AND below.path > file.path || '/' AND below.path < file.path || '0'"
        " WHERE file.download_id = ? AND file.plan = ? AND below.plan = file.plan LIMIT 1",
        (download_id, number),
    ).fetchone()
    if clash:
        raise DownloaderError(
            ErrorCode.UNSAFE_KEY,
            f"the key {clash[0]!r} would be a file where {clash[1]!r} needs a directory;"
            " rename one of them",
            keys=list(clash),
        )
    old = "SELECT path FROM files WHERE download_id = ? AND plan <> ?"
    return [path for (path,) in connection.execute(old, (download_id, number))]


def set_sha256(connection: sqlite3.Connection, values: Iterable[tuple[str, int]]) -> None:
    """Set the SHA-256 that files must have. A file that was done with another one is not done."""
    sql = "UPDATE files SET done = done AND ?1 IN ('', sha256), sha256 = ?1 WHERE number = ?2"
    connection.executemany(sql, values)


def totals(connection: sqlite3.Connection, download_id: str) -> Totals:
    """Return the sums over the files of a download."""
    row = connection.execute(
        "SELECT coalesce(sum(size), 0), count(*), coalesce(sum(size * done), 0),"
        " coalesce(sum(done), 0), coalesce(sum(done AND checksum <> ''), 0)"
        " FROM files WHERE download_id = ?",
        (download_id,),
    ).fetchone()
    return Totals(*row)


def page(
    connection: sqlite3.Connection, download_id: str, done: bool | None, after: int, limit: int
) -> list[FileRecord]:
    """Return the first `limit` files with a number greater than `after`.

    `done` selects the files that are done, or that are not. None selects all.
    """
    rows = connection.execute(
        "SELECT number, path, key, size, etag, modified, done, sha256, checksum,"
        " attempts, error_code, error, next_attempt, skipped FROM files"
        " WHERE download_id = ? AND number > ? AND done = coalesce(?, done)"
        " ORDER BY number LIMIT ?",
        (download_id, after, done, limit),
    )
    return [_record(*row) for row in rows]


def mark(connection: sqlite3.Connection, files: Sequence[FileRecord], *, done: bool) -> None:
    """Record whether files are done, and their checksums. Clear their errors."""
    sql = (
        "UPDATE files SET done = ?, checksum = ?, error_code = '', error = '',"
        " next_attempt = NULL WHERE number = ?"
    )
    values = [(done, file.checksum if done else "", file.number) for file in files]
    connection.executemany(sql, values)


def mark_failed(connection: sqlite3.Connection, attempts: Iterable[FailedAttempt]) -> None:
    """Count failed attempts, and record the errors and the times of the next attempts."""
    connection.executemany(
        "UPDATE files SET attempts = attempts + ?, error_code = ?, error = ?, next_attempt = ?"
        " WHERE number = ?",
        [
            (a.count, a.code.value, a.message[:_LONGEST_ERROR], a.next_attempt, a.number)
            for a in attempts
        ],
    )


def mark_skipped(
    connection: sqlite3.Connection, files: Iterable[FileRecord], *, skipped: bool
) -> None:
    """Record whether files are skipped, and not published."""
    sql = "UPDATE files SET skipped = ? WHERE number = ?"
    connection.executemany(sql, [(skipped, file.number) for file in files])


def mark_unpinned_missing(connection: sqlite3.Connection, download_id: str) -> None:
    """Record that files are not done if their objects have neither a validator nor a SHA-256."""
    connection.execute(
        "UPDATE files SET done = 0, checksum = ''"
        " WHERE download_id = ? AND etag = '' AND sha256 = ''",
        (download_id,),
    )


def _record(
    number: int,
    path: str,
    name: str,
    size: int,
    validator: str,
    modified: float | None,
    done: int,
    sha256: str,
    checksum: str,
    attempts: int,
    error_code: str,
    error: str,
    next_attempt: float | None,
    skipped: int,
) -> FileRecord:
    return FileRecord(
        number=number,
        path=path,
        name=name,
        size=size,
        validator=validator,
        modified=modified,
        done=bool(done),
        sha256=sha256,
        checksum=checksum,
        attempts=attempts,
        error_code=_code(error_code),
        error=error,
        next_attempt=next_attempt,
        skipped=bool(skipped),
    )


def _code(value: str) -> ErrorCode | None:
    """Return the code of that value, None for an empty one, INTERNAL_ERROR for an unknown one."""
    return _CODES.get(value, ErrorCode.INTERNAL_ERROR) if value else None
