"""Commands in the order in which they arrived, on disk from then until they are answered."""

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
    """A command as it was delivered. Where it brought no id, it has one that was made for it.

    `unrecorded` is why it is not on disk, `takeovers` how many processes have found it there.
    """

    command_id: str
    payload: bytes
    unrecorded: DownloaderError | None = None
    on_answered: Callable[[], None] = _do_nothing
    takeovers: int = 0


class Inbox:
    """A queue on disk, which the next process takes up where this one ends.

    A command leaves it in the transaction that records its response (`Store.record`).
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._recorded: Backlog[Arrived] = Backlog(store.arrived)
        self._unrecorded: deque[Delivery] = deque()
        self._arrived = asyncio.Event()

    async def load(self) -> None:
        """Take over what an earlier process left."""
        try:
            await self._store.take_over()
        except DownloaderError as error:
            log.error("it is not counted that commands are taken over: %s", error)

    async def put(self, command_id: str, payload: bytes, *, retained: bool) -> bool:
        """Take a command in; return once it is on disk. Raises what Store does.

        False stands for a retained command that was taken in before: it is not carried out again.
        """
        digest = hashlib.sha256(payload).digest() if retained else None
        arrived = await self._store.receive(command_id, payload, retained_digest=digest)
        if arrived is None:
            return False
        self._recorded.wrote(arrived)
        self._arrived.set()
        return True

    def put_unrecorded(self, delivery: Delivery) -> None:
        """Take in a command that is not to be on disk."""
        self._unrecorded.append(delivery)
        self._arrived.set()

    async def take(self) -> Delivery:
        """Return the next command, once there is one; those on disk come first."""
        while True:
            self._arrived.clear()
            legible = bool(self._recorded.ready) or await self._read_on()
            if self._recorded.ready:
                _, command_id, payload, takeovers = self._recorded.ready.popleft()
                return Delivery(command_id, payload, takeovers=takeovers)
            if self._unrecorded:
                return self._unrecorded.popleft()
            if legible:
                await self._arrived.wait()
            else:
                await first_of(self._arrived.wait(), self._clock.sleep(_READ_AGAIN))

    async def _read_on(self) -> bool:
        """Read what comes next; tell whether that was possible."""
        if not self._recorded.goes_on:
            return True
        try:
            await self._recorded.read_on()
        except DownloaderError as error:
            log.error("the commands that wait cannot be read: %s", error)
            return False
        return True
