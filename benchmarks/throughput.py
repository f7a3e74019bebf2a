"""Downloads through the daemon, beside s5cmd: alone, with a sync after it, and fed a list."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from sandbox.operator import Operator
from sandbox.servers import ObjectServer

from .figures import table
from .stage import download, fill, s5cmd, stage

__all__ = ["ROUNDS", "run"]

ROUNDS = 5


class _Load(NamedTuple):
    """So many objects of `size` bytes."""

    name: str
    prefix: str
    objects: int
    size: int

    @property
    def keys(self) -> list[str]:
        return [f"{self.prefix}{number:06}" for number in range(self.objects)]

    @property
    def key(self) -> str:
        """What a command names."""
        return self.prefix if self.objects > 1 else self.keys[0]


_LOADS = (
    _Load("1 object of 2 GiB", "one/", 1, 2 << 30),
    _Load("2,000 objects of 256 KiB", "many/", 2_000, 256 << 10),
)
_Contender = Callable[[_Load, Path], Awaitable[object]]


async def run(directory: Path, rounds: int) -> str:
    """Let the contenders take turns, each round in another order."""
    async with ObjectServer(directory / "s3") as server:
        for load in _LOADS:
            await fill(server, load.keys, size=load.size, source=directory / "source")
        async with stage(directory / "device", "mqtt", server) as scene:
            contenders: Mapping[str, _Contender] = {
                "daemon": lambda load, place: _daemon(scene.operator, load, place),
                "`s5cmd cp`": lambda load, place: _cp(server, load, place),
                "`s5cmd cp`, then `sync`": lambda load, place: _cp_and_sync(server, load, place),
                "`s5cmd run` of the same list": lambda load, place: _run(server, load, place),
            }
            places = directory / "device" / "models"
            tables = [
                f"{load.name}\n\n{await _compare(load, contenders, rounds, places)}"
                for load in _LOADS
            ]
    return "\n\n".join(tables)


async def _compare(
    load: _Load, contenders: Mapping[str, _Contender], rounds: int, places: Path
) -> str:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        for turn, name in enumerate(names):
            place = places / f"{load.prefix}{number}-{turn}"
            taken = await _measure(contenders[name], load, place)
            if number:  # the first round warms the server up
                seconds[name].append(taken)
        names.append(names.pop(0))
    head = [f"wall time, {rounds} rounds", "median", "fastest", "slowest", "daemon against it"]
    daemon = seconds["daemon"]
    return table(head, [_row(name, taken, daemon) for name, taken in seconds.items()])


def _row(name: str, seconds: list[float], daemon: list[float]) -> list[str]:
    """Return the figures of a contender; the ratio is the median of those of all rounds."""
    ratio = statistics.median(ours / theirs for ours, theirs in zip(daemon, seconds, strict=True))
    figures = (statistics.median(seconds), min(seconds), max(seconds))
    return [name, *(f"{figure:.2f} s" for figure in figures), f"{ratio:.2f}"]


async def _measure(contender: _Contender, load: _Load, place: Path) -> float:
    """Return the seconds that a contender takes, with no other bytes waiting for the disk.

    The files are emptied, not removed: ext4 is slow to use inodes that were just set free.
    """
    await asyncio.to_thread(os.sync)
    start = time.perf_counter()
    await contender(load, place)
    taken = time.perf_counter() - start
    files = list(place.iterdir())
    assert [file.stat().st_size for file in files] == [load.size] * load.objects
    for file in files:
        os.truncate(file, 0)
    return taken


async def _daemon(operator: Operator, load: _Load, place: Path) -> None:
    await download(operator, load.key, place, download_id=f"{load.objects}-{place.name}")


async def _cp(server: ObjectServer, load: _Load, place: Path) -> None:
    source = f"{load.prefix}*" if load.objects > 1 else load.key
    await s5cmd(server, "cp", f"s3://models/{source}", f"{place}/")


async def _cp_and_sync(server: ObjectServer, load: _Load, place: Path) -> None:
    await _cp(server, load, place)
    sync = await asyncio.create_subprocess_exec("sync", "--file-system", place)
    assert await sync.wait() == 0


async def _run(server: ObjectServer, load: _Load, place: Path) -> None:
    copies = [f"cp --raw s3://models/{key} {place}/{Path(key).name}\n" for key in load.keys]
    await s5cmd(server, "run", commands="".join(copies))
