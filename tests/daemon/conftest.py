"""A device on the test's rig."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from s3downloader.messaging.memory import Hub, MemoryBus

from ..support import ManualClock
from .disk import GatedStore, connection_on
from .rig import Rig


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """A device that is not started yet, in the machine's own time."""
    hub = Hub()
    async with MemoryBus(hub) as operator:
        rig = Rig(tmp_path, operator, hub)
        connect = partial(sqlite3.connect, factory=connection_on(rig.disk))
        monkeypatch.setattr(sqlite3, "connect", connect)
        monkeypatch.setattr("s3downloader.app.daemon.Store", partial(GatedStore, gates=rig.gates))
        await rig.listen()
        yield rig


@pytest.fixture
def clock(rig: Rig) -> ManualClock:
    """The time of `rig`, which stands still."""
    clock = ManualClock(now=1_700_000_000.0)
    rig.clock = clock
    return clock
