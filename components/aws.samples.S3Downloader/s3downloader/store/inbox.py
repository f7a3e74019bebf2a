"""The queue of commands: on disk, in the order of their arrival, until they have a response."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..core.aio import first_of
from ..core.clock import Clock
from ..core.errors import DownloaderError
from . import Arrived, Backlog, Store

__all__ = ["Delivery", "Inbox"]

log = logging.getLogger(__name__)

_READ_AGAIN = 10.0


def _do_nothing() -> None:
    return


class Delivery(NamedTuple):
    """A command as it was received. If it has no id of its own, it has a generated one.

    `unrecorded` says why the command is not on disk, None if it is. `takeovers` is the number of
    processes that have found it on disk at their start.
    """

    command_id: str
    payload: bytes
    unrecorded: DownloaderError | None = None
    on_answered: Callable[[], None] = _do_nothing
    takeovers: int = 0


class Inbox:
    """A queue on disk. The next process continues where this one ends.

    A command leaves it in the transaction that records its response (`Store.record`).
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._recorded: Backlog[Arrived] = Backlog(store.arrived)
        self._unrecorded: deque[Delivery] = deque()
        self._arrived = asyncio.Event()

    async def load(self) -> None:
        """Count this process for each command that an earlier process left."""
        try:
            await self._store.take_over()
        except DownloaderError as error:
            log.error("the processes that take over commands cannot be counted: %s", error)

    async def put(self, command_id: str, payload: bytes, *, retained: bool) -> bool:
        """Queue a command, and return when it is on disk. Raises what Store raises.

        Returns False for a retained command that was queued before. It is not queued again.
        """
        digest = hashlib.sha256(payload).digest() if retained else None
        arrived = await self._store.receive(command_id, payload, retained_digest=digest)
        if arrived is None:
            return False
        self._recorded.add(arrived)
        self._arrived.set()
        return True

    def put_unrecorded(self, delivery: Delivery) -> None:
        """Queue a command in memory only."""
        self._unrecorded.append(delivery)
        self._arrived.set()

    async def take(self) -> Delivery:
        """Wait for the next command, and return it. Those on disk come first."""
        while True:
            self._arrived.clear()
            could_read = bool(self._recorded.ready) or await self._read_more()
            if self._recorded.ready:
                _, command_id, payload, takeovers = self._recorded.ready.popleft()
                return Delivery(command_id, payload, takeovers=takeovers)
            if self._unrecorded:
                return self._unrecorded.popleft()
            if could_read:
                await self._arrived.wait()
            else:
                await first_of(self._arrived.wait(), self._clock.sleep(_READ_AGAIN))

    async def _read_more(self) -> bool:
        """Read the next commands from disk. Return whether that was possible."""
        if not self._recorded.has_more:
            return True
        try:
            await self._recorded.read_more()
        except DownloaderError as error:
            log.error("the waiting commands cannot be read: %s", error)
            return False
        return True
