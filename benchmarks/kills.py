"""Bytes that cross a link while the daemon is killed with -9 again and again."""

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
    """How a download outlived its daemons.

    `size` and `bytes_down` are bytes: of the object, and of all that came over the link for it,
    HTTP's headers and listings among them. `identical` tells whether the SHA-256 is the object's.
    """

    size: int
    kills: int
    bytes_down: int
    seconds: float
    identical: bool

    @property
    def ratio(self) -> float:
        """How often a byte crossed the link, on average."""
        return self.bytes_down / self.size


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the object, the link and the kills be chosen."""
    parser.add_argument("--mib", type=int, default=2048, help="size of the object (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="how many (%(default)s)")
    parser.add_argument("--rate", type=float, default=60e6, help="bytes a second (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (%(default)s)")
    parser.add_argument("--engine", default="auto", help="the daemon's engine (%(default)s)")


async def run(
    directory: Path, rounds: int, *, mib: int, kills: int, rate: float, seed: int, engine: str
) -> str:
    """Kill the daemon at other moments in each round, and count what passes."""
    rng = random.Random(seed)
    survivals = []
    for number in range(rounds):
        place = directory / str(number)
        moments = random_moments(mib << 20, kills, rng)
        survivals.append(await survive(place, mib << 20, moments, rate=rate, engine=engine))
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
    """Return `kills` moments in the download of `size` bytes, each as a count of bytes."""
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
    """Download an object of `size` bytes, and kill the daemon at each of `moments`.

    A moment is the count of bytes that have come over the link by then; its daemon is killed with
    SIGKILL and started again at once. `rate` is that of the link in bytes a second, None is
    unlimited. Raises TimeoutError when the object is not there `within` seconds.
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
    """Kill the device's daemon at each moment, and note it in `killed`."""
    for moment in moments:
        await link.carried(before + moment)
        killed.append(moment)
        await uninterrupted(_restart(device))


async def _restart(device: Device) -> None:
    await device.kill()
    await device.start()
