"""Messages on `responses`, published in order; events are kept until they are published."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice, takewhile
from typing import NamedTuple

import msgspec

from .clock import Clock
from .contract import GENERATED
from .errors import DownloaderError, ErrorCode
from .store import Change, Store

__all__ = ["Outbox"]

log = logging.getLogger(__name__)

_IN_FLIGHT = 8
_LONGEST_WAIT = 30.0


class _Message(NamedTuple):
    payload: bytes
    number: int | None
    """The event's number in the store; a response has none."""


class Outbox:
    """A queue whose events survive the process, and whose order survives a lost connection.

    Responses are not kept on disk: who sent a command and got none sends it again, and gets the
    answer that the store remembers.
    """

    def __init__(
        self, store: Store, publish: Callable[[bytes], Awaitable[None]], clock: Clock
    ) -> None:
        self._store = store
        self._publish = publish
        self._clock = clock
        self._queue: deque[_Message] = deque()
        self._filled = asyncio.Event()

    async def load(self) -> None:
        """Take up the events that an earlier process could not publish."""
        for number, event in await self._store.events():
            self._append(_Message(event, number))

    async def record(self, change: Change) -> None:
        """Write `change` to disk, then let its answers and events follow what is queued already.

        An answer to a command that brought no id of its own can never be asked for again: it is
        published only.
        """
        kept = [answer for answer in change.answers if not answer[0].startswith(GENERATED)]
        numbers = await self._store.record(msgspec.structs.replace(change, answers=kept))
        for _, response in change.answers:
            self.respond(response)
        for event, number in zip(change.events, numbers, strict=True):
            self._append(_Message(event, number))

    def respond(self, response: bytes) -> None:
        """Queue a response that needs no memory, or has one already."""
        self._append(_Message(response, None))

    async def run(self) -> None:
        """Publish what is queued, for ever, through lost connections."""
        wait = 1.0
        while True:
            await self._filled.wait()
            try:
                await self._publish_head()
                wait = 1.0
            except DownloaderError as error:
                log.warning("publishing again in %.0f s: %s", wait, error)
                await self._clock.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    def _append(self, message: _Message) -> None:
        self._queue.append(message)
        self._filled.set()

    async def _publish_head(self) -> None:
        """Publish an event by itself, or several responses at once, since those need no order."""
        if not self._queue:
            self._filled.clear()
            return
        responses = takewhile(lambda m: m.number is None, islice(self._queue, _IN_FLIGHT))
        head = list(responses) or [self._queue[0]]
        results = await asyncio.gather(*map(self._send, head), return_exceptions=True)
        failures = []
        for message, result in zip(head, results, strict=True):
            self._queue.popleft()
            if isinstance(result, BaseException):
                failures.append((message, result))
            elif message.number is not None:
                await self._forget(message.number)
        self._queue.extendleft(message for message, _ in reversed(failures))
        if failures:
            raise failures[0][1]

    async def _forget(self, number: int) -> None:
        try:
            await self._store.forget_event(number)
        except DownloaderError as error:
            log.warning("event %d is published again after a restart: %s", number, error)

    async def _send(self, message: _Message) -> None:
        try:
            await self._publish(message.payload)
        except DownloaderError as error:
            if error.code is not ErrorCode.PAYLOAD_TOO_LARGE:
                raise
            log.error("a message could not be published: %s", error)
