"""Downloads through the daemon, beside s5cmd: alone, with a sync after it, and fed a list."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from sandbox.operator import Operator
from sandbox.servers import ObjectServer

from .figures import table
from .loads import Load
from .stage import download, fill, s5cmd, stage

__all__ = ["ROUNDS", "run"]

ROUNDS = 5


_LOADS = (
    Load("one", "1 object of 2 GiB", (2 << 30,)),
    Load("many", "2,000 objects of 256 KiB", (256 << 10,) * 2_000),
)
_Contender = Callable[[Load, Path], Awaitable[object]]


async def run(directory: Path, rounds: int) -> str:
    """Let the contenders take turns, each round in another order."""
    async with ObjectServer(directory / "s3") as server:
        for load in _LOADS:
            await fill(server, load.keys, size=load.sizes[0], source=directory / "source")
        async with stage(directory / "device", "mqtt", server) as scene:
            contenders: Mapping[str, _Contender] = {
                "daemon": lambda load, place: _daemon(scene.operator, load, place),
                "`s5cmd cp`": lambda load, place: _cp(server, load, place),
                "`s5cmd cp`, then `sync`": lambda load, place: _cp_and_sync(server, load, place),
                "`s5cmd run` of the same list": lambda load, place: _run(server, load, place),
            }
            places = directory / "device" / "models"
            tables = [
                f"{load.title}\n\n{await _compare(load, contenders, rounds, places)}"
                for load in _LOADS
            ]
    return "\n\n".join(tables)


async def _compare(
    load: Load, contenders: Mapping[str, _Contender], rounds: int, places: Path
) -> str:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        for turn, name in enumerate(names):
            place = places / f"{load.name}-{number}-{turn}"
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


async def _measure(contender: _Contender, load: Load, place: Path) -> float:
    """Return the seconds that a contender takes, with no other bytes waiting for the disk."""
    await asyncio.to_thread(os.sync)
    start = time.perf_counter()
    await contender(load, place)
    taken = time.perf_counter() - start
    load.check_sizes(place)
    load.empty(place)
    return taken


async def _daemon(operator: Operator, load: Load, place: Path) -> None:
    await download(operator, load.key, place, download_id=place.name)


async def _cp(server: ObjectServer, load: Load, place: Path) -> None:
    await s5cmd(server, "cp", f"s3://models/{load.pattern}", f"{place}/")


async def _cp_and_sync(server: ObjectServer, load: Load, place: Path) -> None:
    await _cp(server, load, place)
    sync = await asyncio.create_subprocess_exec("sync", "--file-system", place)
    assert await sync.wait() == 0


async def _run(server: ObjectServer, load: Load, place: Path) -> None:
    copies = [f"cp --raw s3://models/{key} {place}/{Path(key).name}\n" for key in load.keys]
    await s5cmd(server, "run", commands="".join(copies))
