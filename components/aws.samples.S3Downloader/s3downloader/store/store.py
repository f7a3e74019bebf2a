"""Reads and records the state: downloads, files, models, versions, commands and messages."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..core.records import Download, FailedAttempt, FileRecord, Version
from . import bodies, files, messages, published
from .database import Database
from .files import Item, Totals
from .messages import RESPONSES, Arrived, Outgoing
from .migrations import Schema, schema
from .published import Published
from .recovery.opening import DAMAGE_KEY
from .recovery.sealing import seal, unseal

__all__ = ["Change", "Store"]

_PAGE = 1_000
_DOWNLOAD = "SELECT body FROM downloads WHERE download_id = ?"
_METADATA = "SELECT body FROM notes WHERE name = ?"


class Change(msgspec.Struct, kw_only=True):
    """A change of the state, recorded in one transaction: all of it, or nothing.

    `at` is the time of the change, in seconds since the epoch. `downloads` are new or changed.
    `deleted_downloads` are ids; their files are deleted too. `clear_files` are ids of downloads
    whose records of files are deleted. `responses` are pairs of a command's id and the response;
    they are published before `events`, and all of them on `channel`. `models` maps ids to entries;
    None deletes one. `metadata` are JSON texts by name. `versions` are new or changed,
    `deleted_versions` no longer exist. `moved` are pairs of an old and a new path of published
    files or directories. A change that is not `durable` survives a loss of power only after the
    next durable one.
    """

    at: float = 0.0
    downloads: Sequence[Download] = ()
    deleted_downloads: Sequence[str] = ()
    clear_files: Sequence[str] = ()
    events: Sequence[bytes] = ()
    responses: Sequence[tuple[str, bytes]] = ()
    models: dict[str, dict[str, Any] | None] = {}
    metadata: dict[str, bytes] = {}
    versions: Sequence[Version] = ()
    deleted_versions: Sequence[Version] = ()
    moved: Sequence[tuple[str, str]] = ()
    durable: bool = True
    channel: str = RESPONSES


class Store:
    """The state database. Every method is one transaction, or reads.

    Methods raise DISK_FULL or INTERNAL_ERROR if the disk fails. Unless they say otherwise, changes
    are on disk when they return.
    """

    def __init__(self, directory: Path, schema_: Schema | None = None) -> None:
        """Open the state in `directory`. `schema_` is by default that of the package.

        Raises what Database raises.
        """
        self._database = Database(directory, schema_ or schema())
        self.damaged = self._database.damaged

    async def close(self) -> None:
        """Commit the waiting transactions and close."""
        await self._database.close()

    async def record(self, change: Change) -> list[Outgoing]:
        """Record `change`. Return its responses and events, which must now be published.

        A command whose response is recorded is removed from the inbox in the same transaction.
        """
        return await self._database.transact(
            lambda connection: _record(connection, change, keeps=self._database.is_newer),
            durable=change.durable,
        )

    async def downloads(self) -> list[Download]:
        """Return all downloads. The oldest comes first."""
        rows = await self._fetch("SELECT body FROM downloads ORDER BY created_at, download_id")
        return [bodies.download(body) for (body,) in rows]

    async def models(self) -> dict[str, dict[str, Any]]:
        """Return the registry's entries by model id."""
        rows = await self._fetch("SELECT model_id, body FROM models ORDER BY model_id")
        return {model_id: msgspec.json.decode(unseal(body)) for model_id, body in rows}

    async def metadata(self, name: str) -> bytes | None:
        """Return the metadata recorded under `name`, a JSON text. None if there is none."""
        rows = await self._fetch(_METADATA, name)
        return unseal(rows[0][0]) if rows else None

    async def damage(self) -> str | None:
        """Return the warning of damage to the state, None if there is none."""
        stored = await self.metadata(DAMAGE_KEY)
        return None if stored is None else msgspec.json.decode(stored, type=str)

    async def clear_damage(self) -> None:
        """Delete the warning of damage: it has been sent."""
        await self._execute("DELETE FROM notes WHERE name = ?", DAMAGE_KEY)

    async def response(self, command_id: str) -> bytes | None:
        """Return the recorded response to `command_id`, None if there is none."""
        rows = await self._fetch("SELECT response FROM answers WHERE command_id = ?", command_id)
        return unseal(rows[0][0]) if rows else None

    async def delete_responses(self, *, before: float, most: int) -> None:
        """Delete responses recorded before that time, and all but the newest `most`."""
        await self._execute(
            "DELETE FROM answers WHERE at < ? OR command_id IN"
            " (SELECT command_id FROM answers ORDER BY at DESC LIMIT -1 OFFSET ?)",
            before,
            most,
        )

    async def receive(
        self, command_id: str, payload: bytes, *, retained_digest: bytes | None = None
    ) -> Arrived | None:
        """Record a received command in the inbox, and return it.

        `retained_digest` is a digest of the payload if the broker retains the message. Returns None
        if the last retained command had the same digest.
        """
        return await self._database.transact(
            lambda c: messages.receive(c, command_id, payload, retained_digest)
        )

    async def take_over(self) -> None:
        """Add 1 to the takeovers of all commands in the inbox."""
        await self._database.transact(messages.take_over)

    async def arrived(self, after: int = 0, limit: int = _PAGE) -> list[Arrived]:
        """Return the first `limit` commands in the inbox with a number greater than `after`."""
        return await self._database.read(lambda c: messages.arrived(c, after, limit))

    async def outgoing(self, after: int = 0, limit: int = _PAGE) -> list[Outgoing]:
        """Return the first `limit` messages in the outbox with a number greater than `after`."""
        return await self._database.read(lambda c: messages.outgoing(c, after, limit))

    async def newest_arrival(self) -> int:
        """Return the number of the newest command in the inbox, 0 for none."""
        return await self._database.read(messages.newest_arrival)

    async def delete_messages(
        self, *, published: Sequence[int] = (), answered: Sequence[tuple[str, int]] = ()
    ) -> None:
        """Delete published messages from the outbox, and commands that have a response.

        `published` are numbers of messages. `answered` are pairs of a command's id and a number:
        the oldest command with that id, up to that number, is deleted. A later one with the same id
        has no response yet.

        Not durable by itself: after a loss of power, a message may be published again.
        """

        def work(connection: sqlite3.Connection) -> None:
            messages.delete_published(connection, published)
            messages.remove_answered(connection, answered)

        await self._database.transact(work, durable=False)

    async def plan(self, download_id: str, plan: int, items: Sequence[Item]) -> list[str]:
        """Add `items` to the plan with the number `plan`, from 1.

        A file that was done stays done if its object has the same size, the same validator and no
        new SHA-256. An item without a `sha256` keeps that of its file; `set_sha256` changes it.
        Returns the names of objects that had another size or validator in an earlier plan. Raises
        UNSAFE_KEY if two objects would become one file. Not durable by itself.
        """
        return await self._database.transact(
            lambda c: files.plan(c, download_id, plan, items), durable=False
        )

    async def set_sha256(self, values: Sequence[tuple[str, int]]) -> None:
        """Set the SHA-256 that files must have. Each value is a SHA-256 in hex and a file's number.

        A file that was done with another SHA-256, or without one, is then not done. With an empty
        SHA-256 a file needs none, and stays done.
        """
        await self._database.transact(lambda c: files.set_sha256(c, values))

    async def clear_sha256(self, download_id: str) -> None:
        """Remove the required SHA-256 from all files of a download."""
        await self._execute(
            "UPDATE files SET sha256 = '' WHERE download_id = ? AND sha256 <> ''", download_id
        )

    async def outdated(self, download_id: str, plan: int) -> list[str]:
        """Return the paths of files that are in earlier plans only.

        Raises UNSAFE_KEY if, in this plan, an object would become a file where another one needs a
        directory.
        """
        return await self._database.read(lambda c: files.outdated(c, download_id, plan))

    async def drop_outdated(self, download_id: str, plan: int) -> None:
        """Delete the records of files that are in earlier plans only."""
        await self._execute(
            "DELETE FROM files WHERE download_id = ? AND plan <> ?", download_id, plan
        )

    async def totals(self, download_id: str) -> Totals:
        """Return the sums over the files of a download."""
        return await self._database.read(lambda c: files.totals(c, download_id))

    async def files(
        self, download_id: str, *, done: bool | None = None, after: int = 0
    ) -> AsyncIterator[FileRecord]:
        """Yield the files of a download with a number greater than `after`, in order.

        With `done`, only files that are done, or that are not. Reads 1,000 files at a time.
        """
        while True:
            page = await self._page_of_files(download_id, done, after)
            for file in page:
                yield file
            if len(page) < _PAGE:
                return
            after = page[-1].number

    async def _page_of_files(
        self, download_id: str, done: bool | None, after: int
    ) -> list[FileRecord]:
        return await self._database.read(lambda c: files.page(c, download_id, done, after, _PAGE))

    async def mark_done(self, arrived: Sequence[FileRecord]) -> None:
        """Record that these files are complete and synced, and the checksums that verified them."""
        await self._database.transact(lambda c: files.mark(c, arrived, done=True))

    async def mark_missing(self, missing: Sequence[FileRecord]) -> None:
        """Record that these files are not done."""
        await self._database.transact(lambda c: files.mark(c, missing, done=False))

    async def mark_failed(self, attempts: Sequence[FailedAttempt]) -> None:
        """Count failed attempts at files, and record their errors. Not durable by itself."""
        await self._database.transact(lambda c: files.mark_failed(c, attempts), durable=False)

    async def mark_skipped(self, skipped: Sequence[FileRecord], *, is_skipped: bool = True) -> None:
        """Record whether these files are skipped, and not published."""
        await self._database.transact(lambda c: files.mark_skipped(c, skipped, skipped=is_skipped))

    async def mark_unpinned_missing(self, download_id: str) -> None:
        """Record that files are not done if their objects have neither a validator nor a SHA-256.

        Nothing shows that these objects are still the same. Not durable by itself.
        """
        await self._database.transact(
            lambda c: files.mark_unpinned_missing(c, download_id), durable=False
        )

    async def versions(self) -> list[Version]:
        """Return all versions in the order of their numbers, also those pending deletion."""
        return await self._database.read(published.versions)

    async def record_published(self, files: Sequence[Published]) -> None:
        """Record published files. Not durable by itself."""
        await self._database.transact(lambda c: published.put(c, files), durable=False)

    async def published(self, files: Iterable[str]) -> list[Published]:
        """Return the records of published files at the absolute paths `files`."""
        names = tuple(files)
        return await self._database.read(lambda c: published.published(c, names))

    async def published_files(self) -> AsyncIterator[list[str]]:
        """Yield the paths of all published files, in order, up to 1,000 at a time."""
        after = ""
        while page := await self._published_after(after):
            yield page
            after = page[-1]

    async def _published_after(self, after: str) -> list[str]:
        return await self._database.read(lambda c: published.page(c, after, _PAGE))

    async def delete_published(self, files: Iterable[str]) -> None:
        """Delete the records of published files at the absolute paths `files`."""
        await self._database.transact(lambda c: published.delete(c, files))

    async def _fetch(self, sql: str, *values: Any) -> list[Any]:
        return await self._database.read(lambda c: c.execute(sql, values).fetchall())

    async def _execute(self, sql: str, *values: Any) -> None:
        await self._database.transact(lambda c: c.execute(sql, values))


def _record(connection: sqlite3.Connection, change: Change, *, keeps: bool) -> list[Outgoing]:
    """Record `change`. With `keeps`, unknown fields of the present records are kept."""
    for download in change.downloads:
        name = download.download_id
        before = _body(connection, _DOWNLOAD, name) if keeps else None
        connection.execute(
            "INSERT INTO downloads (download_id, created_at, body) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET body = excluded.body",
            (name, download.created_at, bodies.encode(name, download, before=before)),
        )
    for download_id in change.deleted_downloads:
        connection.execute("DELETE FROM downloads WHERE download_id = ?", (download_id,))
    for download_id in change.clear_files:
        connection.execute("DELETE FROM files WHERE download_id = ?", (download_id,))
    for model_id, model in change.models.items():
        if model is None:
            connection.execute("DELETE FROM models WHERE model_id = ?", (model_id,))
        else:
            connection.execute(
                "INSERT INTO models (model_id, body) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET body = excluded.body",
                (model_id, seal(model_id, msgspec.json.encode(model))),
            )
    for name, text in change.metadata.items():
        before = _body(connection, _METADATA, name) if keeps else None
        messages.record_metadata(connection, name, bodies.encode_fields(name, text, before=before))
    published.record_versions(connection, change.versions, change.deleted_versions, keeps=keeps)
    published.move(connection, change.moved)
    channel = change.channel
    responses = [
        messages.record_response(connection, change.at, *pair, channel) for pair in change.responses
    ]
    events = [messages.record_event(connection, event, channel) for event in change.events]
    return responses + events


def _body(connection: sqlite3.Connection, query: str, key: str) -> bytes | None:
    """Return the text of the row with that key, None if there is no row."""
    row = connection.execute(query, (key,)).fetchone()
    return row[0] if row else None
