"""Measures how much arrives over a slow link with a delay and random connection resets."""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path
from typing import NamedTuple

from sandbox.link import Link
from sandbox.servers import ObjectServer

from .figures import table
from .stage import begin, stage

__all__ = ["ROUNDS", "Arrival", "LinkQuality", "add_options", "run"]

ROUNDS = 1
_GOAL = 0.95
_KEY = "model.bin"


class LinkQuality(NamedTuple):
    """The quality of a link.

    `bits` is the rate in bits per second, `delay` the seconds in each direction, `resets` the mean
    seconds between two resets.
    """

    bits: float
    delay: float
    resets: float

    def capacity(self, seconds: float) -> float:
        """Return the bytes that the link can carry in that time."""
        return self.bits / 8 * seconds


class Arrival(NamedTuple):
    """The result of a round.

    `status` is that of the download at the end, `payload` the bytes of the object that the daemon
    reports as done, `bytes_down` all bytes that the link carried down, and `connections` the number
    of connections that were opened.
    """

    status: str
    payload: int
    bytes_down: int
    connections: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the link and the time."""
    parser.add_argument("--seconds", type=float, default=300, help="time per round (%(default)s)")
    parser.add_argument("--mbit", type=float, default=20, help="Mbit/s of the link (%(default)s)")
    parser.add_argument(
        "--delay",
        type=float,
        default=0.05,
        help="seconds in each direction: half of the round trip (%(default)s)",
    )
    parser.add_argument(
        "--resets",
        type=float,
        default=20,
        help="mean seconds from one reset of a connection to the next (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed for the resets (%(default)s)")
    parser.add_argument("--engine", default="auto", help="the daemon's engine (%(default)s)")


async def run(
    directory: Path,
    rounds: int,
    *,
    seconds: float,
    mbit: float,
    delay: float,
    resets: float,
    seed: int,
    engine: str,
) -> str:
    """Download for some time, then cancel. The resets differ in each round."""
    quality = LinkQuality(mbit * 1e6, delay, resets)
    rng = random.Random(seed)
    size = round(1.3 * quality.capacity(seconds))
    async with ObjectServer(directory / "s3") as server:
        await server.make(_KEY, size)
        arrivals = [
            await _measure(server, directory / str(number), quality, seconds, rng, engine)
            for number in range(rounds)
        ]
    capacity = quality.capacity(seconds)
    head = [
        f"{seconds:g} s at {mbit:g} Mbit/s, round trip {2 * delay * 1e3:g} ms",
        "status",
        "payload",
        "over the link",
        "connections",
        "payload / capacity of the link",
    ]
    worst = min(arrival.payload for arrival in arrivals) / capacity
    verdict = f"- at least {_GOAL:.0%} of the capacity of the link, {_mb(capacity)}: {worst:.1%}"
    rows = [_row(f"round {number}", a, capacity) for number, a in enumerate(arrivals, 1)]
    return f"{table(head, rows)}\n\n{verdict}, {'reached' if worst >= _GOAL else 'missed'}"


def _row(name: str, arrival: Arrival, capacity: float) -> list[str]:
    return [
        name,
        arrival.status,
        _mb(arrival.payload),
        _mb(arrival.bytes_down),
        str(arrival.connections),
        f"{arrival.payload / capacity:.1%}",
    ]


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


async def _measure(
    server: ObjectServer,
    directory: Path,
    quality: LinkQuality,
    seconds: float,
    rng: random.Random,
    engine: str,
) -> Arrival:
    """Return what arrives within `seconds` after the command."""
    destination = directory / "device" / "models"
    async with (
        Link(server.port, rate=quality.bits / 8, delay=quality.delay) as link,
        stage(directory / "device", "mqtt", server, link.endpoint) as scene,
    ):
        link.reset_every(quality.resets, rng)
        before, connected = link.bytes_down, link.connections_total
        await begin(scene.operator, _KEY, destination, "rough", engine=engine)
        await asyncio.sleep(seconds)
        carried = (link.bytes_down - before, link.connections_total - connected)
        response = await scene.operator.ask("details", download_id="rough")
        details = response["details"]
        await scene.operator.ask("cancel", download_id="rough", within=60)
        return Arrival(details["status"], int(details["bytes_done"]), *carried)
