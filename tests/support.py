"""What tests of every room need."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PRIVATE_MOUNTS = ["unshare", "--mount"]
"""Runs a command that may mount what it likes without anybody else seeing it."""
NO_NETWORK = ["unshare", "--net"]
"""Runs a command that finds no network, not even loopback."""
if os.geteuid() != 0:
    PRIVATE_MOUNTS += ["--user", "--map-root-user"]
    NO_NETWORK += ["--user", "--map-root-user"]


async def eventually(probe: Callable[[], T], *, within: float = 10.0) -> T:
    """Return the first truthy value of `probe`; fail after `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not (value := probe()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {probe}"
        await asyncio.sleep(0.01)
    return value


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie that waits for its parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class ManualClock:
    """A clock that stands still; who sleeps on it is woken by the test."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.time = now
        self._sleeps: asyncio.Queue[float] = asyncio.Queue()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        """The time since the epoch."""
        return self.time

    def monotonic(self) -> float:
        """The same time."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test wakes it."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((seconds, sleeper))
        self._sleeps.put_nowait(seconds)
        await sleeper

    async def next_sleep(self) -> float:
        """Return how long the next sleeper sleeps, once it does."""
        return await asyncio.wait_for(self._sleeps.get(), 10)

    def wake(self) -> None:
        """Let the time of all sleepers pass."""
        sleepers, self._sleepers = self._sleepers, []
        self.time += max((seconds for seconds, _ in sleepers), default=0.0)
        for _, sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
