"""The harness of a device, and its clock."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from ..messaging.memory import Hub, MemoryBus
from ..support import ManualClock
from .disk import GatedStore, connection_on
from .harness import Harness


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    """A device whose daemon is not started yet, with the machine's clock."""
    hub = Hub()
    async with MemoryBus(hub) as operator:
        harness = Harness(tmp_path, operator, hub)
        connect = partial(sqlite3.connect, factory=connection_on(harness.disk))
        monkeypatch.setattr(sqlite3, "connect", connect)
        monkeypatch.setattr(
            "s3downloader.app.daemon.Store", partial(GatedStore, gates=harness.gates)
        )
        await harness.listen()
        yield harness


@pytest.fixture
def clock(harness: Harness) -> ManualClock:
    """The clock of `harness`, which stands still."""
    clock = ManualClock(now=1_700_000_000.0)
    harness.clock = clock
    return clock
