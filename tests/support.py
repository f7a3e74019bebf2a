"""What tests of every room need."""

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
"""Seconds in which whatever is sure to come comes, also on a machine that is busy or stalls."""
PRIVATE_MOUNTS = ["unshare", "--mount"]
"""Runs a command that may mount what it likes without anybody else seeing it."""
NO_NETWORK = ["unshare", "--net"]
"""Runs a command that finds no network, not even loopback."""
if os.geteuid() != 0:
    PRIVATE_MOUNTS += ["--user", "--map-root-user"]
    NO_NETWORK += ["--user", "--map-root-user"]


async def eventually(probe: Callable[[], T], *, within: float = PATIENCE) -> T:
    """Return the first truthy value of `probe`; fail after `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not (value := probe()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {probe}"
        await asyncio.sleep(0.01)
    return value


def assert_backs_off(waits: Sequence[float], shortest: float, longest: float) -> None:
    """See that the pauses after failures in a row double within their bounds, with jitter."""
    for failures, wait in enumerate(waits, start=1):
        most = min(longest, shortest * 2**failures)
        assert max(shortest, most / 2) <= wait <= most, (failures, waits)


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
        self._sleepers: list[tuple[float, float, asyncio.Future[None]]] = []
        """Until when, and for how long, each sleeps."""

    def now(self) -> float:
        """The time since the epoch."""
        return self.time

    def monotonic(self) -> float:
        """The same time."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test wakes it."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, seconds, sleeper))
        self._sleeps.put_nowait(seconds)
        await sleeper

    async def next_sleep(self) -> float:
        """Return how long the next sleeper sleeps, once it does."""
        return await asyncio.wait_for(self._sleeps.get(), PATIENCE)

    def wake(self) -> None:
        """Let the time of all sleepers pass."""
        sleepers, self._sleepers = self._sleepers, []
        self.time += max((seconds for _, seconds, _ in sleepers), default=0.0)
        self._rouse(sleepers)

    def advance(self, seconds: float) -> None:
        """Let so much time pass; who sleeps longer sleeps on."""
        self.time += seconds
        self._rouse([sleeper for sleeper in self._sleepers if sleeper[0] <= self.time])
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self.time]

    def _rouse(self, sleepers: list[tuple[float, float, asyncio.Future[None]]]) -> None:
        for _, _, sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)


class LeapingClock:
    """The machine's own time, and what the test adds to it; who sleeps notices a leap at once."""

    def __init__(self) -> None:
        self._leapt = 0.0
        self._leaps = asyncio.Event()

    def now(self) -> float:
        """The time since the epoch."""
        return time.time() + self._leapt

    def monotonic(self) -> float:
        """A time that never goes back."""
        return time.monotonic() + self._leapt

    async def sleep(self, seconds: float) -> None:
        """Return after that time, of which a leap may be a part."""
        until = self.monotonic() + seconds
        while (left := until - self.monotonic()) > 0:
            await first_of(asyncio.sleep(left), self._leaps.wait())

    def leap(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._leapt += seconds
        self._leaps.set()
        self._leaps.clear()


class _Flight(selectors.DefaultSelector):
    """A selector that does not wait for a timer, but says how long it would have waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed += timeout or 0.0
        return super().select(0 if timeout else timeout)


class _FlyingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it has nothing to do, and then at once."""

    def __init__(self) -> None:
        self._flight = _Flight()
        super().__init__(self._flight)

    def time(self) -> float:
        return self._flight.passed


class _LoopClock:
    """The time of the loop that runs."""

    def now(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def fly(main: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    """Run `main` with a clock on which any time passes at once, in order, to the microsecond.

    On a loop of its own, in a test that is not a coroutine. Threads have no place in it.
    """
    loop = _FlyingLoop()
    try:
        return loop.run_until_complete(main(_LoopClock()))
    finally:
        loop.close()
