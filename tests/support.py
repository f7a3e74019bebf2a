"""Helpers for all tests: waiting for events, clocks, and commands that isolate a process."""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from s3downloader.core.aio import first_of
from s3downloader.core.clock import Clock

T = TypeVar("T")

PATIENCE = 30.0
"""The seconds within which an expected event happens, even on a busy machine."""
PRIVATE_MOUNTS = ["unshare", "--mount"]
"""Words before a command that run it in a mount namespace of its own."""
NO_NETWORK = ["unshare", "--net"]
"""Words before a command that run it without a network, not even loopback."""
if os.geteuid() != 0:
    PRIVATE_MOUNTS += ["--user", "--map-root-user"]
    NO_NETWORK += ["--user", "--map-root-user"]


async def eventually(probe: Callable[[], T], *, within: float = PATIENCE) -> T:
    """Return the first truthy value of `probe`. Raises AssertionError after `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not (value := probe()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {probe}"
        await asyncio.sleep(0.01)
    return value


def assert_backs_off(waits: Sequence[float], shortest: float, longest: float) -> None:
    """Check that the waits after consecutive failures double within the bounds, with jitter."""
    for failures, wait in enumerate(waits, start=1):
        most = min(longest, shortest * 2**failures)
        assert max(shortest, most / 2) <= wait <= most, (failures, waits)


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class ManualClock:
    """A clock that stands still until the test moves it."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.time = now
        self._sleeps: asyncio.Queue[float] = asyncio.Queue()
        self._sleepers: list[tuple[float, float, asyncio.Future[None]]] = []
        """The time at which each sleep ends, its length, and its future."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self.time

    def monotonic(self) -> float:
        """Return the same time as `now`."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Wait until the test ends the sleep by `wake` or `advance`."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, seconds, sleeper))
        self._sleeps.put_nowait(seconds)
        await sleeper

    async def next_sleep(self) -> float:
        """Wait for the next sleep, and return its length in seconds."""
        return await asyncio.wait_for(self._sleeps.get(), PATIENCE)

    def wake(self) -> None:
        """Move the clock to the end of the longest sleep, and end all sleeps."""
        sleepers, self._sleepers = self._sleepers, []
        self.time += max((seconds for _, seconds, _ in sleepers), default=0.0)
        self._rouse(sleepers)

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`, and end the sleeps that are over."""
        self.time += seconds
        self._rouse([sleeper for sleeper in self._sleepers if sleeper[0] <= self.time])
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self.time]

    def _rouse(self, sleepers: list[tuple[float, float, asyncio.Future[None]]]) -> None:
        for _, _, sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)


class JumpingClock:
    """The machine's clock, which the test can set forward. Sleeps notice this at once."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._jumps = asyncio.Event()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self._offset

    def monotonic(self) -> float:
        """Return a time in seconds that never goes back."""
        return time.monotonic() + self._offset

    async def sleep(self, seconds: float) -> None:
        """Wait until that time has passed. A jump counts."""
        until = self.monotonic() + seconds
        while (left := until - self.monotonic()) > 0:
            await first_of(asyncio.sleep(left), self._jumps.wait())

    def jump(self, seconds: float) -> None:
        """Set the clock forward by `seconds`."""
        self._offset += seconds
        self._jumps.set()
        self._jumps.clear()


class _InstantSelector(selectors.DefaultSelector):
    """A selector that does not wait for timers, but sums up how long it would have waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed += timeout or 0.0
        return super().select(0 if timeout else timeout)


class _InstantLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it is idle, and then at once."""

    def __init__(self) -> None:
        self._instant = _InstantSelector()
        super().__init__(self._instant)

    def time(self) -> float:
        return self._instant.passed


class _LoopClock:
    """The clock of the running event loop."""

    def now(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_instantly(main: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    """Run `main` with a clock on which sleeps take no time, and end in the right order.

    `main` runs on an event loop of its own, so the test must not be a coroutine. It must not use
    threads.
    """
    loop = _InstantLoop()
    try:
        return loop.run_until_complete(main(_LoopClock()))
    finally:
        loop.close()
