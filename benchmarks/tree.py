"""What a process and all that descend from it use together."""

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
    """The process `root` and its descendants, as they come and go.

    `peak` is the most memory that all of them together had in any sample. What all have resident
    is looked at each time; the proportional share, which the kernel has to walk their pages for,
    only when that has risen.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.peak = Memory(0, 0)
        self._highest = 0
        self._parents: dict[int, int] = {}

    def members(self) -> list[int]:
        """Return the ids of those that run now; the root is the first."""
        with os.scandir("/proc") as entries:
            running = {int(entry.name) for entry in entries if entry.name.isdigit()}
        for gone in self._parents.keys() - running:
            del self._parents[gone]
        for new in running - self._parents.keys():
            with suppress(FileNotFoundError, ProcessLookupError):
                self._parents[new] = _parent(new)
        return [pid for pid in sorted(self._parents, key=self._order) if self._belongs(pid)]

    def sample(self) -> None:
        """Look at the memory that all have now."""
        members = self.members()
        resident = sum(map(_rss, members))
        if resident > self._highest:
            self._highest = resident
            sizes = [_memory(pid) for pid in members]
            now = Memory(sum(size.rss for size in sizes), sum(size.pss for size in sizes))
            self.peak = Memory(*map(max, self.peak, now))

    def cpu_seconds(self) -> float:
        """Return the CPU time of all so far, with that of descendants that were waited for."""
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
    """Sample the memory of a tree of processes all the while, about every 20 ms."""
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
    """Return the memory of a process, none if it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return memory(pid)
    return Memory(0, 0)
