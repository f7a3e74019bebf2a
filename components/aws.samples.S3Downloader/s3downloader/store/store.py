"""What is remembered, and what is recorded together."""

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
    """What is recorded in one transaction: all of it, or nothing.

    `forgotten` are ids of downloads to forget, `clear_files` of those whose files to forget.
    `models` maps model ids to their entries, None to remove one. `responses` are pairs of a
    command id and the response to it, which are published before the `events`; both are published
    on `channel`. `metadata` are JSON texts by name, such as the known shadow. `versions` are new or
    changed ones, `removed` those that are there no more. `moved` are pairs of an old and a new path
    of published files. `at` is the time of the change. One that is not `durable` is on disk for
    good with the next one that is.
    """

    at: float = 0.0
    downloads: Sequence[Download] = ()
    forgotten: Sequence[str] = ()
    clear_files: Sequence[str] = ()
    events: Sequence[bytes] = ()
    responses: Sequence[tuple[str, bytes]] = ()
    models: dict[str, dict[str, Any] | None] = {}
    metadata: dict[str, bytes] = {}
    versions: Sequence[Version] = ()
    removed: Sequence[Version] = ()
    moved: Sequence[tuple[str, str]] = ()
    durable: bool = True
    channel: str = RESPONSES


class Store:
    """Downloads, their files, commands and the responses to them, messages to publish, models."""

    def __init__(self, directory: Path, schema_: Schema | None = None) -> None:
        """Open the store in `directory`, by the schema of the package or another.

        Errors are those of Database.
        """
        self._database = Database(directory, schema_ or schema())
        self.damaged = self._database.damaged

    async def close(self) -> None:
        """Commit what waits and close."""
        await self._database.close()

    async def record(self, change: Change) -> list[Outgoing]:
        """Write `change`; return its responses and events, to be published, once it is on disk.

        A command that is answered leaves the inbox with that.
        """
        return await self._database.transact(
            lambda connection: _record(connection, change, keeps=self._database.is_newer),
            durable=change.durable,
        )

    async def downloads(self) -> list[Download]:
        """Return all downloads, the oldest first."""
        rows = await self._fetch("SELECT body FROM downloads ORDER BY created_at, download_id")
        return [bodies.download(body) for (body,) in rows]

    async def models(self) -> dict[str, dict[str, Any]]:
        """Return all models by their ids."""
        rows = await self._fetch("SELECT model_id, body FROM models ORDER BY model_id")
        return {model_id: msgspec.json.decode(unseal(body)) for model_id, body in rows}

    async def metadata(self, name: str) -> bytes | None:
        """Return what the `metadata` of a Change recorded under `name`."""
        rows = await self._fetch(_METADATA, name)
        return unseal(rows[0][0]) if rows else None

    async def damage(self) -> str | None:
        """Return what is to be told of damage to the state, until `forget_damage`."""
        stored = await self.metadata(DAMAGE_KEY)
        return None if stored is None else msgspec.json.decode(stored, type=str)

    async def forget_damage(self) -> None:
        """Forget what was to be told of damage."""
        await self._execute("DELETE FROM notes WHERE name = ?", DAMAGE_KEY)

    async def response(self, command_id: str) -> bytes | None:
        """Return the response that was given to `command_id`."""
        rows = await self._fetch("SELECT response FROM answers WHERE command_id = ?", command_id)
        return unseal(rows[0][0]) if rows else None

    async def forget_responses(self, *, before: float, most: int) -> None:
        """Forget responses given before that time, and the oldest beyond `most`."""
        await self._execute(
            "DELETE FROM answers WHERE at < ? OR command_id IN"
            " (SELECT command_id FROM answers ORDER BY at DESC LIMIT -1 OFFSET ?)",
            before,
            most,
        )

    async def receive(
        self, command_id: str, payload: bytes, *, retained_digest: bytes | None = None
    ) -> Arrived | None:
        """Take a command in; return it, or None for a retained one that was taken in before.

        `retained_digest` stands for the content of a message that the broker retains.
        """
        return await self._database.transact(
            lambda c: messages.receive(c, command_id, payload, retained_digest)
        )

    async def take_over(self) -> None:
        """Count that another process has found the commands that are not answered."""
        await self._database.transact(messages.take_over)

    async def arrived(self, after: int = 0, limit: int = _PAGE) -> list[Arrived]:
        """Return the first commands that are not answered and have a greater number."""
        return await self._database.read(lambda c: messages.arrived(c, after, limit))

    async def outgoing(self, after: int = 0, limit: int = _PAGE) -> list[Outgoing]:
        """Return the first messages that are not published and have a greater number."""
        return await self._database.read(lambda c: messages.outgoing(c, after, limit))

    async def newest_arrival(self) -> int:
        """Return the number of the newest command that is not answered, 0 for none."""
        return await self._database.read(messages.newest_arrival)

    async def forget(
        self, *, published: Sequence[int] = (), answered: Sequence[tuple[str, int]] = ()
    ) -> None:
        """Forget messages that were published, by number, and a command of each id.

        With each id goes the number of the newest command that may be the one: one that came
        later, with the same id, is not answered yet.

        Not durable by itself: after a loss of power a message may be published again.
        """

        def work(connection: sqlite3.Connection) -> None:
            messages.forget(connection, published)
            messages.remove_answered(connection, answered)

        await self._database.transact(work, durable=False)

    async def plan(self, download_id: str, plan: int, items: Sequence[Item]) -> list[str]:
        """Add `items` to plan number `plan`; a file done before stays done if it is the same.

        Plans count from 1. Returns the names of the objects that an earlier plan had
        with another validator or size.
        An item without a `sha256` leaves that of its file as it is; `expect` changes it.
        Raises UNSAFE_KEY when two objects would become one file. Not durable by itself.
        """
        return await self._database.transact(
            lambda c: files.plan(c, download_id, plan, items), durable=False
        )

    async def expect(self, values: Sequence[tuple[str, int]]) -> None:
        """Set the SHA-256 that files must have; each value is that and the file's number.

        A file that was done with another one, or with none, is done no more. One whose value is
        empty needs none any more, and stays as it is.
        """
        await self._database.transact(lambda c: files.expect(c, values))

    async def expect_nothing(self, download_id: str) -> None:
        """Forget the SHA-256 of all files of a download."""
        await self._execute(
            "UPDATE files SET sha256 = '' WHERE download_id = ? AND sha256 <> ''", download_id
        )

    async def outdated(self, download_id: str, plan: int) -> list[str]:
        """Return the paths of files that are in older plans only.

        Raises UNSAFE_KEY when in this plan a file would stand where another key needs a directory.
        """
        return await self._database.read(lambda c: files.outdated(c, download_id, plan))

    async def drop_outdated(self, download_id: str, plan: int) -> None:
        """Forget the files that are in older plans only."""
        await self._execute(
            "DELETE FROM files WHERE download_id = ? AND plan <> ?", download_id, plan
        )

    async def totals(self, download_id: str) -> Totals:
        """Sum up the files of a download."""
        return await self._database.read(lambda c: files.totals(c, download_id))

    async def files(
        self, download_id: str, *, done: bool | None = None, after: int = 0
    ) -> AsyncIterator[FileRecord]:
        """Go through the files of a download by their numbers, with little memory."""
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
        """Remember that these files are whole and synced, and by what they were verified."""
        await self._database.transact(lambda c: files.mark(c, arrived, done=True))

    async def mark_missing(self, missing: Sequence[FileRecord]) -> None:
        """Remember that these files are not whole."""
        await self._database.transact(lambda c: files.mark(c, missing, done=False))

    async def mark_failed(self, attempts: Sequence[FailedAttempt]) -> None:
        """Count failed attempts at files, and remember why the last of each failed.

        Not durable by itself.
        """
        await self._database.transact(lambda c: files.mark_failed(c, attempts), durable=False)

    async def mark_skipped(self, skipped: Sequence[FileRecord], *, is_skipped: bool = True) -> None:
        """Remember whether these files are left out of what is published."""
        await self._database.transact(lambda c: files.mark_skipped(c, skipped, skipped=is_skipped))

    async def mark_unpinned_missing(self, download_id: str) -> None:
        """Remember that files whose objects have no validator are not whole.

        Nothing tells that they are still the same, but for a SHA-256 that they must have.
        Not durable by itself.
        """
        await self._database.transact(
            lambda c: files.mark_unpinned_missing(c, download_id), durable=False
        )

    async def versions(self) -> list[Version]:
        """Return all versions by their numbers: those retained, and those to be deleted."""
        return await self._database.read(published.versions)

    async def publish(self, files: Sequence[Published]) -> None:
        """Remember files as they were published. Not durable by itself."""
        await self._database.transact(lambda c: published.put(c, files), durable=False)

    async def published(self, files: Iterable[str]) -> list[Published]:
        """Return what is known of those of `files`, absolute paths, that have been published."""
        names = tuple(files)
        return await self._database.read(lambda c: published.published(c, names))

    async def published_files(self) -> AsyncIterator[list[str]]:
        """Go through the paths of all published files, page by page."""
        after = ""
        while page := await self._published_after(after):
            yield page
            after = page[-1]

    async def _published_after(self, after: str) -> list[str]:
        return await self._database.read(lambda c: published.page(c, after, _PAGE))

    async def unpublish(self, files: Iterable[str]) -> None:
        """Forget published files, absolute paths."""
        await self._database.transact(lambda c: published.forget(c, files))

    async def _fetch(self, sql: str, *values: Any) -> list[Any]:
        return await self._database.read(lambda c: c.execute(sql, values).fetchall())

    async def _execute(self, sql: str, *values: Any) -> None:
        await self._database.transact(lambda c: c.execute(sql, values))


def _record(connection: sqlite3.Connection, change: Change, *, keeps: bool) -> list[Outgoing]:
    """Write `change`; `keeps` says that fields which are not known here are to stay."""
    for download in change.downloads:
        name = download.download_id
        before = _body(connection, _DOWNLOAD, name) if keeps else None
        connection.execute(
            "INSERT INTO downloads (download_id, created_at, body) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET body = excluded.body",
            (name, download.created_at, bodies.encode(name, download, before=before)),
        )
    for download_id in change.forgotten:
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
    published.record_versions(connection, change.versions, change.removed, keeps=keeps)
    published.move(connection, change.moved)
    channel = change.channel
    responses = [
        messages.record_response(connection, change.at, *pair, channel) for pair in change.responses
    ]
    events = [messages.record_event(connection, event, channel) for event in change.events]
    return responses + events


def _body(connection: sqlite3.Connection, query: str, key: str) -> bytes | None:
    """Return the text of the row of `key`, where there is one."""
    row = connection.execute(query, (key,)).fetchone()
    return row[0] if row else None
