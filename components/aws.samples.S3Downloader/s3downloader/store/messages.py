"""Reads and writes the inbox, the outbox, and the recorded responses and metadata."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from ..core.records import GENERATED
from .recovery.sealing import RESPONSES, message_key, seal, unseal

__all__ = [
    "RESPONSES",
    "Arrived",
    "Outgoing",
    "arrived",
    "delete_published",
    "newest_arrival",
    "outgoing",
    "receive",
    "record_event",
    "record_metadata",
    "record_response",
    "remove_answered",
    "take_over",
]

_RETAINED = "retained_command"
"""The name of the metadata with the digest of the last retained command."""


class Arrived(NamedTuple):
    """A received command. Numbers grow in the order of arrival.

    `takeovers` is the number of processes that have found it without a response at their start.
    """

    number: int
    command_id: str
    payload: bytes
    takeovers: int = 0


class Outgoing(NamedTuple):
    """A message to publish. Numbers grow in the order in which messages were recorded.

    `channel` names where it is published.
    """

    number: int
    payload: bytes
    is_response: bool
    channel: str = RESPONSES


def receive(
    connection: sqlite3.Connection, command_id: str, payload: bytes, retained_digest: bytes | None
) -> Arrived | None:
    """Record a received command in the inbox, and return it.

    `retained_digest` is a digest of the payload if the broker retains the message, else None.
    Returns None if the last retained command had the same digest.
    """
    if retained_digest is not None:
        sealed = seal(_RETAINED, retained_digest)
        known = "SELECT 1 FROM notes WHERE name = ? AND body = ?"
        if connection.execute(known, (_RETAINED, sealed)).fetchone():
            return None
        record_metadata(connection, _RETAINED, sealed)
    sql = "INSERT INTO inbox (command_id, payload) VALUES (?, ?)"
    return Arrived(
        _insert(connection, sql, command_id, seal(command_id, payload)), command_id, payload
    )


def record_metadata(connection: sqlite3.Connection, name: str, sealed: bytes) -> None:
    """Record a text with its checksum under `name`, in place of an earlier one."""
    connection.execute(
        "INSERT INTO notes (name, body) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET body = excluded.body",
        (name, sealed),
    )


def arrived(connection: sqlite3.Connection, after: int, limit: int) -> list[Arrived]:
    """Return the first `limit` unanswered commands whose number is greater than `after`."""
    sql = (
        "SELECT number, command_id, payload, takeovers FROM inbox"
        " WHERE number > ? ORDER BY number LIMIT ?"
    )
    return [
        Arrived(number, command_id, unseal(payload), takeovers)
        for number, command_id, payload, takeovers in connection.execute(sql, (after, limit))
    ]


def take_over(connection: sqlite3.Connection) -> None:
    """Add 1 to the takeovers of all commands in the inbox."""
    connection.execute("UPDATE inbox SET takeovers = takeovers + 1")


def record_response(
    connection: sqlite3.Connection, at: float, command_id: str, response: bytes, channel: str
) -> Outgoing:
    """Queue a response, record it for repeated commands, and remove its command from the inbox."""
    if not command_id.startswith(GENERATED):
        connection.execute(
            "INSERT OR IGNORE INTO answers (command_id, at, response) VALUES (?, ?, ?)",
            (command_id, at, seal(command_id, response)),
        )
    remove_answered(connection, [(command_id, newest_arrival(connection))])
    return _queue(connection, response, channel, is_response=True)


def newest_arrival(connection: sqlite3.Connection) -> int:
    """Return the number of the newest command in the inbox, 0 for none."""
    (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM inbox").fetchone()
    return int(number)


def remove_answered(connection: sqlite3.Connection, commands: Iterable[tuple[str, int]]) -> None:
    """Remove from the inbox, for each pair, the oldest command with that id up to that number.

    Only one command is removed: each delivery of a repeated command gets its own response.
    """
    sql = (
        "DELETE FROM inbox WHERE number ="
        " (SELECT min(number) FROM inbox WHERE command_id = ? AND number <= ?)"
    )
    connection.executemany(sql, commands)


def record_event(connection: sqlite3.Connection, event: bytes, channel: str) -> Outgoing:
    """Queue an event."""
    return _queue(connection, event, channel, is_response=False)


def _queue(
    connection: sqlite3.Connection, payload: bytes, channel: str, *, is_response: bool
) -> Outgoing:
    sql = "INSERT INTO outbox (payload, is_response, channel) VALUES (?, ?, ?)"
    number = _insert(connection, sql, seal(message_key(channel), payload), is_response, channel)
    return Outgoing(number, payload, is_response, channel)


def _insert(connection: sqlite3.Connection, sql: str, *values: object) -> int:
    number = connection.execute(sql, values).lastrowid
    assert number is not None
    return number


def outgoing(connection: sqlite3.Connection, after: int, limit: int) -> list[Outgoing]:
    """Return the first `limit` messages to publish whose number is greater than `after`."""
    sql = (
        "SELECT number, payload, is_response, channel FROM outbox"
        " WHERE number > ? ORDER BY number LIMIT ?"
    )
    return [
        Outgoing(number, unseal(payload), bool(is_response), channel)
        for number, payload, is_response, channel in connection.execute(sql, (after, limit))
    ]


def delete_published(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Delete published messages from the outbox, by number."""
    for number in numbers:
        connection.execute("DELETE FROM outbox WHERE number = ?", (number,))
