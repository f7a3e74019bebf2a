"""What arrives over a slow link with a delay, whose connections are reset at random."""

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

__all__ = ["ROUNDS", "Arrival", "Road", "add_options", "run"]

ROUNDS = 1
_GOAL = 0.95
_KEY = "model.bin"


class Road(NamedTuple):
    """A link: bits a second, seconds of delay in each direction, and mean seconds to a reset."""

    bits: float
    delay: float
    resets: float

    def allows(self, seconds: float) -> float:
        """Return the bytes that can pass in that time."""
        return self.bits / 8 * seconds


class Arrival(NamedTuple):
    """What a drive brought: bytes of the object, as the daemon tells, and all over the link.

    `status` is the download's at the end; `connections` is how many were opened for it.
    """

    status: str
    payload: int
    bytes_down: int
    connections: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the link and the time be chosen."""
    parser.add_argument("--seconds", type=float, default=300, help="how long (%(default)s)")
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
    parser.add_argument("--seed", type=int, default=1, help="of the resets (%(default)s)")
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
    """Download for some time, then cancel; with other resets in each round."""
    road = Road(mbit * 1e6, delay, resets)
    rng = random.Random(seed)
    size = round(1.3 * road.allows(seconds))
    async with ObjectServer(directory / "s3") as server:
        await server.make(_KEY, size)
        arrivals = [
            await _drive(server, directory / str(number), road, seconds, rng, engine)
            for number in range(rounds)
        ]
    allowed = road.allows(seconds)
    head = [
        f"{seconds:g} s at {mbit:g} Mbit/s, {2 * delay * 1e3:g} ms there and back",
        "status",
        "payload",
        "over the link",
        "connections",
        "payload of what the link allows",
    ]
    worst = min(arrival.payload for arrival in arrivals) / allowed
    verdict = f"- at least {_GOAL:.0%} of what the link allows, {_mb(allowed)}: {worst:.1%}"
    rows = [_row(f"round {number}", a, allowed) for number, a in enumerate(arrivals, 1)]
    return f"{table(head, rows)}\n\n{verdict}, {'reached' if worst >= _GOAL else 'missed'}"


def _row(name: str, arrival: Arrival, allowed: float) -> list[str]:
    return [
        name,
        arrival.status,
        _mb(arrival.payload),
        _mb(arrival.bytes_down),
        str(arrival.connections),
        f"{arrival.payload / allowed:.1%}",
    ]


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


async def _drive(
    server: ObjectServer,
    directory: Path,
    road: Road,
    seconds: float,
    rng: random.Random,
    engine: str,
) -> Arrival:
    """Return what arrives in the `seconds` after the command."""
    destination = directory / "device" / "models"
    async with (
        Link(server.port, rate=road.bits / 8, delay=road.delay) as link,
        stage(directory / "device", "mqtt", server, link.endpoint) as scene,
    ):
        link.reset_every(road.resets, rng)
        before, connected = link.bytes_down, link.connections_total
        await begin(scene.operator, _KEY, destination, "rough", engine=engine)
        await asyncio.sleep(seconds)
        carried = (link.bytes_down - before, link.connections_total - connected)
        response = await scene.operator.ask("details", download_id="rough")
        details = response["details"]
        await scene.operator.ask("cancel", download_id="rough", within=60)
        return Arrival(details["status"], int(details["bytes_done"]), *carried)
