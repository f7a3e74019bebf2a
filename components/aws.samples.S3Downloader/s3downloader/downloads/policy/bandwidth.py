"""The device's bandwidth limit, from the configuration or from a command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from ...core.clock import Clock
from ...core.decoding import DECODE_ERRORS
from ...core.settings import Settings
from ...core.throttle import Throttle
from ...store import Change, Store
from ...store.outbox import Outbox

__all__ = ["Bandwidth"]

log = logging.getLogger(__name__)

_METADATA = "max_bandwidth"


class _Chosen(msgspec.Struct, frozen=True):
    """A limit set by a command, and MaxBandwidth at that time, both in bytes per second."""

    limit: int
    configured: int


class Bandwidth:
    """The limit in force, which survives restarts, and the throttle that applies it.

    A limit set by a command is in force until MaxBandwidth changes in the configuration, or until
    a command removes it. Otherwise MaxBandwidth is in force.
    """

    def __init__(
        self, store: Store, outbox: Outbox, settings: Callable[[], Settings], clock: Clock
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._chosen: _Chosen | None = None
        self._outdated = False
        self._choosing = asyncio.Lock()
        self.throttle = Throttle(clock, self.limit)

    def limit(self) -> int:
        """Return the device's limit in bytes per second, 0 for none."""
        configured = self.configured()
        chosen = self._chosen
        return chosen.limit if chosen and chosen.configured == configured else configured

    def configured(self) -> int:
        """Return MaxBandwidth in bytes per second, 0 for no limit."""
        return self._settings().max_bandwidth

    async def load(self) -> None:
        """Load a limit that a command set before a restart."""
        if stored := await self._store.metadata(_METADATA):
            try:
                self._chosen = msgspec.json.decode(stored, type=_Chosen | None)
            except DECODE_ERRORS as error:
                log.warning("the limit that a command set cannot be read: %s", error)
        self.follow_configuration()

    async def choose(
        self, limit: int | None, make_responses: Callable[[], Sequence[tuple[str, bytes]]]
    ) -> None:
        """Set the limit in bytes per second, 0 for none. None returns to the configuration.

        It applies at once. `make_responses` is called when the new limit is in force. Its responses
        are recorded in the same transaction. If that fails, the earlier limit applies again.
        """
        async with self._choosing:
            before = self._chosen
            self._chosen = None if limit is None else _Chosen(limit, self.configured())
            try:
                await self._record(make_responses())
            except Exception:
                self._chosen = before
                raise
            finally:
                self.throttle.refresh()

    def follow_configuration(self) -> None:
        """Apply a changed MaxBandwidth. It replaces a limit set by a command."""
        if self._chosen and self._chosen.configured != self.configured():
            self._chosen = None
            self._outdated = True
        self.throttle.refresh()

    async def save(self) -> None:
        """Record that the configuration has replaced a limit set by a command."""
        if self._outdated:
            async with self._choosing:
                await self._record()

    async def _record(self, responses: Sequence[tuple[str, bytes]] = ()) -> None:
        metadata = {_METADATA: msgspec.json.encode(self._chosen)}
        await self._outbox.record(
            Change(at=self._clock.now(), responses=responses, metadata=metadata)
        )
        self._outdated = False
