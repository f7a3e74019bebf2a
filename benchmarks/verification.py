"""Measures how much time the verification of checksums adds to a download."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from sandbox.servers import ObjectServer

from .figures import table
from .loads import Load
from .stage import Stage, download, stage

__all__ = ["ROUNDS", "Pair", "add_options", "run"]

ROUNDS = 5
_GOAL = 1.03
_LOADS = (
    Load("one", "1 object of 2 GiB", (2 << 30,)),
    Load("forty", "40 objects of 16 MiB", (16 << 20,) * 40),
)


class Pair(NamedTuple):
    """The seconds of a download with verification and of one without.

    `files` is the number of files whose checksums the first one compared.
    """

    verified: float
    unverified: float
    files: int

    @property
    def ratio(self) -> float:
        return self.verified / self.unverified


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the loads and the engine."""
    names = [load.name for load in _LOADS]
    parser.add_argument("--loads", nargs="+", choices=names, default=names, help="what to download")
    parser.add_argument("--engine", default="auto", help="the daemon's engine (%(default)s)")


async def run(directory: Path, rounds: int, *, loads: list[str], engine: str) -> str:
    """Download with and without `verify` in turn; the object store has CRC64NVME checksums."""
    pairs = {}
    for load in _LOADS:
        if load.name in loads:
            folder = directory / load.name
            pairs[load] = await _compare(load, folder, rounds, engine)
            shutil.rmtree(folder)
    head = [
        f"medians of {rounds} rounds",
        "`verify: true`",
        "`verify: false`",
        "ratio",
        "files verified",
    ]
    verdicts = [_verdict(load, measured) for load, measured in pairs.items()]
    rows = [_row(load, measured) for load, measured in pairs.items()]
    return f"{table(head, rows)}\n\n" + "\n".join(verdicts)


def _row(load: Load, pairs: list[Pair]) -> list[str]:
    return [
        load.title,
        f"{statistics.median(pair.verified for pair in pairs):.2f} s",
        f"{statistics.median(pair.unverified for pair in pairs):.2f} s",
        f"{statistics.median(pair.ratio for pair in pairs):.3f}",
        f"{min(pair.files for pair in pairs)} of {len(load.sizes)}",
    ]


def _verdict(load: Load, pairs: list[Pair]) -> str:
    """Return a line on the goal. It is missed if not all files were verified."""
    ratio = statistics.median(pair.ratio for pair in pairs)
    what = f"- {load.title}: at most {_GOAL} times as long with verification: "
    if min(pair.files for pair in pairs) < len(load.sizes):
        return f"{what}not all files were verified, missed"
    return f"{what}{ratio:.3f}, {'reached' if ratio <= _GOAL else 'missed'}"


async def _compare(load: Load, directory: Path, rounds: int, engine: str) -> list[Pair]:
    """Return the times of all rounds but the first, which warms up the server."""
    async with ObjectServer(directory / "s3") as server:
        await load.upload(server)
        async with stage(directory / "device", "mqtt", server) as scene:
            models = directory / "device" / "models"
            pairs = []
            for number in range(rounds + 1):
                taken = {}
                for verify in (True, False) if number % 2 else (False, True):
                    target = models / f"{number}-{verify}"
                    taken[verify] = await _download(scene, load, target, verify, engine)
                pairs.append(Pair(taken[True][0], taken[False][0], taken[True][1]))
    return pairs[1:]


async def _download(
    scene: Stage, load: Load, target: Path, verify: bool, engine: str
) -> tuple[float, int]:
    """Return the seconds of a download, and the number of files whose checksums it compared."""
    await asyncio.to_thread(os.sync)
    start = time.perf_counter()
    options = {"verify": verify, "engine": engine}
    completed = await download(scene.operator, load.key, target, target.name, **options)
    seconds = time.perf_counter() - start
    load.check_sizes(target)
    load.empty(target)
    return seconds, int(completed["checksums_verified"])
