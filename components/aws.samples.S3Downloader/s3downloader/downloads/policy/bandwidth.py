"""The device's bandwidth: the configuration's, until a command chooses another."""

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
    """A limit that a command set, and MaxBandwidth as it was then; in bytes per second."""

    limit: int
    configured: int


class Bandwidth:
    """What limit is in force, also after a restart, and the throttle that keeps to it.

    A limit that a command chose holds until MaxBandwidth changes in the configuration, or until a
    command gives the say back to the configuration.
    """

    def __init__(
        self, store: Store, outbox: Outbox, settings: Callable[[], Settings], clock: Clock
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._chosen: _Chosen | None = None
        self._outlived = False
        self._choosing = asyncio.Lock()
        self.throttle = Throttle(clock, self.limit)

    def limit(self) -> int:
        """Return the device's limit in bytes per second, 0 for none."""
        configured = self.configured()
        chosen = self._chosen
        return chosen.limit if chosen and chosen.configured == configured else configured

    def configured(self) -> int:
        """Return what the configuration says of it."""
        return self._settings().max_bandwidth

    async def load(self) -> None:
        """Take up what was chosen before a restart."""
        if stored := await self._store.metadata(_METADATA):
            try:
                self._chosen = msgspec.json.decode(stored, type=_Chosen | None)
            except DECODE_ERRORS as error:
                log.warning("the limit that a command chose cannot be read: %s", error)
        self.follow_configuration()

    async def choose(
        self, limit: int | None, make_responses: Callable[[], Sequence[tuple[str, bytes]]]
    ) -> None:
        """Set the limit, or leave it to the configuration where it is None; applied at once.

        `make_responses` makes what is recorded with it, once the new limit is in force.
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
        """Let a changed MaxBandwidth take effect."""
        if self._chosen and self._chosen.configured != self.configured():
            self._chosen = None
            self._outlived = True
        self.throttle.refresh()

    async def save(self) -> None:
        """Write down that a choice has been outlived by the configuration."""
        if self._outlived:
            async with self._choosing:
                await self._record()

    async def _record(self, responses: Sequence[tuple[str, bytes]] = ()) -> None:
        metadata = {_METADATA: msgspec.json.encode(self._chosen)}
        await self._outbox.record(
            Change(at=self._clock.now(), responses=responses, metadata=metadata)
        )
        self._outlived = False
