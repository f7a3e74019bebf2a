"""Commands that have arrived and are not answered, and messages that are not published."""

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
    "forget",
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
"""The note that has the digest of the last retained command that was received."""


class Arrived(NamedTuple):
    """A command as it arrived; numbers grow in the order of arrival.

    `takeovers` is how many processes have found it unanswered when they started.
    """

    number: int
    command_id: str
    payload: bytes
    takeovers: int = 0


class Outgoing(NamedTuple):
    """A message to publish; numbers grow in the order in which messages were recorded.

    `channel` says where it goes.
    """

    number: int
    payload: bytes
    is_response: bool
    channel: str = RESPONSES


def receive(
    connection: sqlite3.Connection, command_id: str, payload: bytes, retained_digest: bytes | None
) -> Arrived | None:
    """Take a command in; return it, or None for a retained one that was taken in before.

    `retained_digest` stands for the content of a message that the broker retains, None for any
    other.
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
    """Record a text with its checksum under `name`, instead of what is there."""
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
    """Count that another process has found what is in the inbox."""
    connection.execute("UPDATE inbox SET takeovers = takeovers + 1")


def record_response(
    connection: sqlite3.Connection, at: float, command_id: str, response: bytes, channel: str
) -> Outgoing:
    """Queue a response, remember it for repetitions, and let its command leave the inbox."""
    if not command_id.startswith(GENERATED):
        connection.execute(
            "INSERT OR IGNORE INTO answers (command_id, at, response) VALUES (?, ?, ?)",
            (command_id, at, seal(command_id, response)),
        )
    remove_answered(connection, [(command_id, newest_arrival(connection))])
    return _queue(connection, response, channel, is_response=True)


def newest_arrival(connection: sqlite3.Connection) -> int:
    """Return the number of the newest command that is not answered, 0 for none."""
    (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM inbox").fetchone()
    return int(number)


def remove_answered(connection: sqlite3.Connection, commands: Iterable[tuple[str, int]]) -> None:
    """Let the oldest command of each id leave the inbox: each delivery has a response.

    With the id goes the greatest number that it may have.
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


def forget(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Forget messages that have been published."""
    for number in numbers:
        connection.execute("DELETE FROM outbox WHERE number = ?", (number,))
