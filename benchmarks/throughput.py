"""Compares the daemon with s5cmd: `cp`, `cp` followed by a sync, and `run` with a list."""

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
    """Let all contenders download each load in each round, in changing order; return tables."""
    async with ObjectServer(directory / "s3") as server:
        for load in _LOADS:
            await fill(server, load.keys, size=load.sizes[0], source=directory / "source")
        async with stage(directory / "device", "mqtt", server) as scene:
            contenders: Mapping[str, _Contender] = {
                "daemon": lambda load, target: _daemon(scene.operator, load, target),
                "`s5cmd cp`": lambda load, target: _cp(server, load, target),
                "`s5cmd cp`, then `sync`": lambda load, target: _cp_and_sync(server, load, target),
                "`s5cmd run` of the same list": lambda load, target: _run(server, load, target),
            }
            models = directory / "device" / "models"
            tables = [
                f"{load.title}\n\n{await _compare(load, contenders, rounds, models)}"
                for load in _LOADS
            ]
    return "\n\n".join(tables)


async def _compare(
    load: Load, contenders: Mapping[str, _Contender], rounds: int, models: Path
) -> str:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        for turn, name in enumerate(names):
            target = models / f"{load.name}-{number}-{turn}"
            taken = await _measure(contenders[name], load, target)
            if number:  # the first round warms up the server
                seconds[name].append(taken)
        names.append(names.pop(0))
    head = [f"wall time, {rounds} rounds", "median", "fastest", "slowest", "ratio"]
    daemon = seconds["daemon"]
    return table(head, [_row(name, taken, daemon) for name, taken in seconds.items()])


def _row(name: str, seconds: list[float], daemon: list[float]) -> list[str]:
    """Return the figures of a contender. The ratio is the median of the ratios of all rounds."""
    ratio = statistics.median(ours / theirs for ours, theirs in zip(daemon, seconds, strict=True))
    figures = (statistics.median(seconds), min(seconds), max(seconds))
    return [name, *(f"{figure:.2f} s" for figure in figures), f"{ratio:.2f}"]


async def _measure(contender: _Contender, load: Load, target: Path) -> float:
    """Return the seconds that a contender needs. All earlier writes are synced before."""
    await asyncio.to_thread(os.sync)
    start = time.perf_counter()
    await contender(load, target)
    taken = time.perf_counter() - start
    load.check_sizes(target)
    load.empty(target)
    return taken


async def _daemon(operator: Operator, load: Load, target: Path) -> None:
    await download(operator, load.key, target, download_id=target.name)


async def _cp(server: ObjectServer, load: Load, target: Path) -> None:
    await s5cmd(server, "cp", f"s3://models/{load.pattern}", f"{target}/")


async def _cp_and_sync(server: ObjectServer, load: Load, target: Path) -> None:
    await _cp(server, load, target)
    sync = await asyncio.create_subprocess_exec("sync", "--file-system", target)
    assert await sync.wait() == 0


async def _run(server: ObjectServer, load: Load, target: Path) -> None:
    copies = [f"cp --raw s3://models/{key} {target}/{Path(key).name}\n" for key in load.keys]
    await s5cmd(server, "run", commands="".join(copies))
