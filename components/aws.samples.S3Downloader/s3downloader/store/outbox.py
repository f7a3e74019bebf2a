"""Publishes recorded messages in order. Each stays on disk until it is published."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any

from ..core.aio import TaskGroup, first_of, uninterrupted
from ..core.backoff import backoff
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode
from . import RESPONSES, Backlog, Change, Outgoing, Store

__all__ = ["Outbox", "Publish"]

log = logging.getLogger(__name__)

_IN_FLIGHT = 8
_SHORTEST_WAIT = 1.0
_LONGEST_WAIT = 30.0
_DELETE_AGAIN = 10.0
_GRACE = 0.5
"""Seconds that messages in flight have to arrive when the process stops."""


class _Unrecorded:
    """A response that could not be recorded, and whether it has been published."""

    is_response = True
    channel = RESPONSES

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.published = asyncio.Event()


_Message = Outgoing | _Unrecorded

Publish = Callable[[bytes], Awaitable[None]]
"""Publishes a payload. Raises DownloaderError if it must be tried again."""


class Outbox:
    """A queue of messages on disk. It keeps their order through lost connections and restarts.

    Up to 8 responses are published at once. An event is published alone, after everything recorded
    before it: the response to its command, and earlier events.
    """

    def __init__(self, store: Store, channels: Mapping[str, Publish], clock: Clock) -> None:
        """`channels` maps the names of channels to the functions that publish there.

        A message for another channel, recorded by a newer version, stays on disk for that version.
        """
        self._store = store
        self._channels = channels
        self._clock = clock
        self._recorded: Backlog[Outgoing] = Backlog(store.outgoing)
        self._unrecorded: deque[_Unrecorded] = deque()
        self._has_messages = asyncio.Event()
        self._has_messages.set()  # with what an earlier process could not publish
        self._connected = asyncio.Event()
        self._published: list[int] = []
        self._answered: list[tuple[str, int]] = []
        """Commands whose response was published but not recorded, as for Store.delete_messages."""
        self._deletable = asyncio.Event()

    async def record(self, change: Change) -> None:
        """Record `change`, and queue its responses and then its events to be published."""
        for message in await self._store.record(change):
            self._recorded.add(message)
            self._has_messages.set()

    async def respond(self, command_id: str, response: bytes) -> None:
        """Record the response to a command that changed nothing, to be published.

        If it cannot be recorded, publish it without, and return when it is published.
        """
        try:
            await self.record(Change(at=self._clock.now(), responses=[(command_id, response)]))
        except DownloaderError as error:
            log.error("the response to %s cannot be recorded: %s", command_id, error)
            newest = await self._store.newest_arrival()
            await self._publish_unrecorded(response)
            self._answered.append((command_id, newest))
            self._deletable.set()

    def connected(self) -> None:
        """Try again now to publish: the link is back."""
        self._connected.set()

    async def run(self) -> None:
        """Publish the queued messages, until cancelled. Failures to publish are tried again."""
        try:
            async with TaskGroup() as group:
                group.create_task(self._delete_continually())
                await self._publish_continually()
        finally:
            await uninterrupted(self._delete_handled())

    async def _publish_continually(self) -> None:
        waits = backoff(_SHORTEST_WAIT, _LONGEST_WAIT)
        while True:
            await self._has_messages.wait()
            self._connected.clear()
            try:
                await self._publish_next()
                waits = backoff(_SHORTEST_WAIT, _LONGEST_WAIT)
            except DownloaderError as error:
                wait = next(waits)
                log.warning("publishing is tried again within %.0f s: %s", wait, error)
                await first_of(self._clock.sleep(wait), self._connected.wait())
                if self._connected.is_set():
                    waits = backoff(_SHORTEST_WAIT, _LONGEST_WAIT)

    async def _publish_unrecorded(self, response: bytes) -> None:
        message = _Unrecorded(response)
        self._unrecorded.append(message)
        self._has_messages.set()
        await message.published.wait()

    async def _publish_next(self) -> None:
        """Publish the first message if it is an event, or up to 8 responses at once."""
        queue: deque[Any] = self._unrecorded or self._recorded.ready
        if not queue:
            await self._read_more()
            return
        if queue[0].channel not in self._channels:
            self._leave(queue.popleft())
            return
        head = list(takewhile(self._is_response, islice(queue, _IN_FLIGHT))) or [queue[0]]
        for _ in head:
            queue.popleft()
        sending = [asyncio.ensure_future(self._send(message)) for message in head]
        try:
            await asyncio.wait(sending)
        except asyncio.CancelledError:
            await asyncio.wait(sending, timeout=_GRACE)
            raise
        finally:
            failures = self._drop_published(head, sending)
            queue.extendleft(message for message, _ in reversed(failures))
        if failures:
            raise failures[0][1]

    def _drop_published(
        self, head: Sequence[_Message], sending: Sequence[asyncio.Future[None]]
    ) -> list[tuple[_Message, BaseException]]:
        """Note the messages that were published. Return the others with their errors."""
        failures: list[tuple[_Message, BaseException]] = []
        for message, sent in zip(head, sending, strict=True):
            if not sent.done() or sent.cancelled():
                sent.cancel()
            elif error := sent.exception():
                failures.append((message, error))
            elif isinstance(message, Outgoing):
                self._published.append(message.number)
                self._deletable.set()
            else:
                message.published.set()
        return failures

    async def _read_more(self) -> None:
        if self._recorded.has_more:
            await self._recorded.read_more()
        if not self._recorded.ready and not self._unrecorded:
            self._has_messages.clear()

    def _is_response(self, message: _Message) -> bool:
        return message.is_response and message.channel in self._channels

    def _leave(self, message: _Message) -> None:
        log.warning("a message is kept for a version that knows the channel %s", message.channel)

    async def _send(self, message: _Message) -> None:
        try:
            await self._channels[message.channel](message.payload)
        except DownloaderError as error:
            if error.code is not ErrorCode.PAYLOAD_TOO_LARGE:
                raise
            log.error("a message could not be published: %s", error)

    async def _delete_continually(self) -> None:
        while True:
            await self._deletable.wait()
            self._deletable.clear()
            if not await self._delete_handled():
                await first_of(self._clock.sleep(_DELETE_AGAIN), self._deletable.wait())
                self._deletable.set()

    async def _delete_handled(self) -> bool:
        """Delete published messages and answered commands on disk. Return whether this worked."""
        published, self._published = self._published, []
        answered, self._answered = self._answered, []
        if not published and not answered:
            return True
        try:
            await self._store.delete_messages(published=published, answered=answered)
        except DownloaderError as error:
            log.warning("published messages are deleted later: %s", error)
            self._published = published + self._published
            self._answered = answered + self._answered
            return False
        return True
