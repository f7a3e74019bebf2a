"""Compares the daemon with s5cmd, AWS CLI, boto3's transfer manager, rclone and aria2."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from sandbox.servers import ObjectServer

from .comparison import DAEMON, Cost, compare, goals
from .contenders import PEERS, Peer, Work, version
from .loads import Load
from .stage import Stage, download, stage
from .tree import watched

__all__ = ["ROUNDS", "add_options", "run"]

ROUNDS = 5
_SMALL = tuple(round(4096 * 64 ** (number / 19)) for number in range(20))  # 4 to 256 KiB
_LOADS = (
    Load("one", "1 object of 4 GiB", (4 << 30,)),
    Load("eight", "8 objects of 512 MiB", (512 << 20,) * 8),
    Load("mixed", "40 objects of 16 MiB and 20 of 4 to 256 KiB", (16 << 20,) * 40 + _SMALL),
    Load("many", "2,000 objects of 256 KiB", (256 << 10,) * 2_000),
)
_Contender = Callable[[Stage, Work], Awaitable[Cost]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose parts of the comparison."""
    contenders = [DAEMON, *PEERS]
    parser.add_argument(
        "--only", nargs="+", choices=contenders, default=contenders, help="contenders to compare"
    )
    names = [load.name for load in _LOADS]
    parser.add_argument(
        "--loads", nargs="+", choices=names, default=names, help="what they download"
    )
    parser.add_argument("--engine", default="auto", help="the daemon's engine (%(default)s)")


async def run(
    directory: Path, rounds: int, *, only: Sequence[str], loads: Sequence[str], engine: str
) -> str:
    """Let all contenders download each load in each round, in changing order; print tables."""
    contenders, lines = await _installed(only, engine)
    print("\n".join(lines), flush=True)
    for load in _LOADS:
        if load.name in loads:
            folder = directory / load.name
            print(f"\n{await _compare(load, folder, rounds, contenders)}", flush=True)
            shutil.rmtree(folder)
    return ""


async def _installed(only: Sequence[str], engine: str) -> tuple[dict[str, _Contender], list[str]]:
    """Return the contenders that are installed, and a line for each peer with its version."""
    contenders: dict[str, _Contender] = {}
    lines = []
    if DAEMON in only:
        contenders[DAEMON] = partial(_daemon, engine)
    for name, peer in PEERS.items():
        if name in only:
            try:
                lines.append(f"- {name}: {await version(peer)}")
                contenders[name] = partial(_peer, peer)
            except FileNotFoundError as error:
                lines.append(f"- without {name}: {error}")
    return contenders, lines


async def _compare(
    load: Load, directory: Path, rounds: int, contenders: Mapping[str, _Contender]
) -> str:
    async with ObjectServer(directory / "s3") as server:
        digests = await load.upload(server)
        async with stage(directory / "device", "mqtt", server) as scene:
            work = Work(server, load, directory / "device" / "models", directory)
            costs = await _take_turns(scene, work, contenders, rounds, digests)
    return "\n\n".join([load.title, compare(costs), "\n".join(goals(costs))]).rstrip()


async def _take_turns(
    scene: Stage,
    work: Work,
    contenders: Mapping[str, _Contender],
    rounds: int,
    digests: list[str],
) -> dict[str, list[Cost]]:
    """Return the costs of each contender in all rounds but the first.

    The first round warms up the server, and compares the digests of the files. The other rounds
    compare their sizes.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        for name in names:
            target = work.target / f"{number}-{name}"
            await asyncio.to_thread(os.sync)
            cost = await contenders[name](scene, work._replace(target=target))
            work.load.check_sizes(target)
            if number:
                costs[name].append(cost)
            else:
                await asyncio.to_thread(work.load.check_digests, target, digests)
            work.load.empty(target)
        names.append(names.pop(0))
    return costs


async def _daemon(engine: str, scene: Stage, work: Work) -> Cost:
    """Measure from the publishing of the command to the arrival of the event."""
    async with watched(scene.device.pid) as tree:
        before = tree.cpu_seconds()
        start = time.perf_counter()
        await download(scene.operator, work.load.key, work.target, work.target.name, engine=engine)
        seconds = time.perf_counter() - start
        return Cost(seconds, tree.cpu_seconds() - before, tree.peak)


async def _peer(peer: Peer, _: Stage, work: Work) -> Cost:
    """Measure from the start of the program to its end."""
    command = peer.download(work)
    log = work.scratch / "peer.log"
    before = _cpu_of_ended_children()
    with log.open("wb") as output:
        start = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=work.environment,
        )
        async with watched(process.pid) as tree:
            status = await process.wait()
        seconds = time.perf_counter() - start
    assert status == 0, f"{command[0]} ended with status {status}: {log.read_text()[-2000:]}"
    return Cost(seconds, _cpu_of_ended_children() - before, tree.peak)


def _cpu_of_ended_children() -> float:
    """Return the CPU seconds of all descendants that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
