"""Measures the memory and the CPU time of a process and its descendants together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from s3downloader.core.aio import stop

from .usage import Memory, cpu_seconds, memory, rss

__all__ = ["Tree", "watched"]

_INTERVAL = 0.02


class Tree:
    """The process `root` and its present descendants.

    `peak` is the highest memory of all of them together in any sample. Each sample reads the RSS.
    It reads the PSS only if the RSS has a new maximum, because the kernel needs long to count it.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.peak = Memory(0, 0)
        self._highest = 0
        self._parents: dict[int, int] = {}

    def members(self) -> list[int]:
        """Return the IDs of the processes that run now, with the root first."""
        with os.scandir("/proc") as entries:
            running = {int(entry.name) for entry in entries if entry.name.isdigit()}
        for gone in self._parents.keys() - running:
            del self._parents[gone]
        for new in running - self._parents.keys():
            with suppress(FileNotFoundError, ProcessLookupError):
                self._parents[new] = _parent(new)
        return [pid for pid in sorted(self._parents, key=self._order) if self._belongs(pid)]

    def sample(self) -> None:
        """Measure the present memory, and update `peak`."""
        members = self.members()
        resident = sum(map(_rss, members))
        if resident > self._highest:
            self._highest = resident
            sizes = [_memory(pid) for pid in members]
            now = Memory(sum(size.rss for size in sizes), sum(size.pss for size in sizes))
            self.peak = Memory(*map(max, self.peak, now))

    def cpu_seconds(self) -> float:
        """Return the CPU time of all so far, including descendants that were waited for."""
        total = 0.0
        for pid in self.members():
            with suppress(FileNotFoundError, ProcessLookupError):
                total += cpu_seconds(pid, with_ended_children=True)
        return total

    def _order(self, pid: int) -> tuple[bool, int]:
        return (pid != self.root, pid)

    def _belongs(self, pid: int) -> bool:
        seen: set[int] = set()
        while pid != self.root and pid in self._parents and pid not in seen:
            seen.add(pid)
            pid = self._parents[pid]
        return pid == self.root


@asynccontextmanager
async def watched(root: int) -> AsyncIterator[Tree]:
    """Sample the memory of a tree of processes every 20 ms for the duration of the context."""
    tree = Tree(root)
    sampling = asyncio.create_task(_sample(tree))
    try:
        yield tree
    finally:
        await stop(sampling)


async def _sample(tree: Tree) -> None:
    while True:
        tree.sample()
        await asyncio.sleep(_INTERVAL)


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return int(stat.rpartition(")")[2].split()[1])


def _rss(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        return rss(pid)
    return 0


def _memory(pid: int) -> Memory:
    """Return the memory of a process; 0 if it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return memory(pid)
    return Memory(0, 0)
