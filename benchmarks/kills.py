"""Measures how many bytes a download needs if the daemon is killed (kill -9) many times."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from s3downloader.core.aio import stop, uninterrupted
from sandbox.device import Device
from sandbox.link import Link
from sandbox.servers import ObjectServer

from .figures import table
from .loads import sha256
from .stage import begin, completion, stage

__all__ = ["ROUNDS", "Survival", "add_options", "random_moments", "run", "survive"]

ROUNDS = 1
_GOAL = 1.02
_KEY = "model.bin"


class Survival(NamedTuple):
    """The result of a download during which the daemon was killed.

    `size` is the size of the object in bytes. `bytes_down` counts all bytes that the link carried
    down, including HTTP headers and listings. `identical` is true if the SHA-256 is that of the
    object.
    """

    size: int
    kills: int
    bytes_down: int
    seconds: float
    identical: bool

    @property
    def ratio(self) -> float:
        """How often each byte crossed the link, on average."""
        return self.bytes_down / self.size


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the object, the link and the kills."""
    parser.add_argument("--mib", type=int, default=2048, help="object size in MiB (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (%(default)s)")
    parser.add_argument("--rate", type=float, default=60e6, help="bytes per second (%(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed for the moments of the kills (%(default)s)"
    )
    parser.add_argument("--engine", default="auto", help="the daemon's engine (%(default)s)")


async def run(
    directory: Path, rounds: int, *, mib: int, kills: int, rate: float, seed: int, engine: str
) -> str:
    """Kill the daemon at random moments, different in each round, and count the bytes."""
    rng = random.Random(seed)
    survivals = []
    for number in range(rounds):
        folder = directory / str(number)
        moments = random_moments(mib << 20, kills, rng)
        survivals.append(await survive(folder, mib << 20, moments, rate=rate, engine=engine))
    head = [f"{mib} MiB at {rate / 1e6:g} MB/s", "kills", "bytes over the link", "ratio", "SHA-256"]
    worst = max(survival.ratio for survival in survivals)
    reached = worst <= _GOAL and all(survival.identical for survival in survivals)
    verdict = f"{worst:.3f}, {'reached' if reached else 'missed'}"
    return f"{table(head, map(_row, survivals))}\n\n- at most {_GOAL} times the object: {verdict}"


def _row(survival: Survival) -> list[str]:
    return [
        f"{survival.seconds:.0f} s",
        str(survival.kills),
        f"{survival.bytes_down:,}",
        f"{survival.ratio:.4f}",
        "identical" if survival.identical else "not the object's",
    ]


def random_moments(size: int, kills: int, rng: random.Random) -> list[int]:
    """Return `kills` sorted moments in a download of `size` bytes, each as a number of bytes."""
    return sorted(rng.randrange(size) for _ in range(kills))


async def survive(
    directory: Path,
    size: int,
    moments: Sequence[int],
    *,
    rate: float | None = 60e6,
    engine: str = "auto",
    within: float = 900.0,
) -> Survival:
    """Download an object of `size` bytes, and kill and restart the daemon at each of `moments`.

    A moment is the number of bytes that the link has carried down since the command. `rate` is
    that of the link in bytes per second; None is unlimited. Raises TimeoutError if the download
    has not completed `within` seconds.
    """
    destination = directory / "device" / "models"
    async with ObjectServer(directory / "s3") as server, Link(server.port, rate=rate) as link:
        expected = await server.make(_KEY, size)
        async with stage(directory / "device", "mqtt", server, link.endpoint) as scene:
            before, start = link.bytes_down, time.perf_counter()
            await begin(scene.operator, _KEY, destination, "survivor", engine=engine)
            killed: list[int] = []
            killing = asyncio.create_task(_kill(scene.device, link, before, moments, killed))
            try:
                await completion(scene.operator, "survivor", within=within)
            finally:
                await stop(killing)
            seconds = time.perf_counter() - start
        found = await asyncio.to_thread(sha256, destination / _KEY)
        return Survival(size, len(killed), link.bytes_down - before, seconds, found == expected)


async def _kill(
    device: Device, link: Link, before: int, moments: Sequence[int], killed: list[int]
) -> None:
    """Kill and restart the daemon at each moment, and append the moment to `killed`."""
    for moment in moments:
        await link.carried(before + moment)
        killed.append(moment)
        await uninterrupted(_restart(device))


async def _restart(device: Device) -> None:
    await device.kill()
    await device.start()
