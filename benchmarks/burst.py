"""Measures how long 1,000 commands sent at once take to be answered."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from sandbox.operator import DeviceMessage, Operator
from sandbox.servers import ObjectServer

from .figures import table
from .stage import stages

__all__ = ["ROUNDS", "run"]

ROUNDS = 3
_COMMANDS = 1_000


class _Burst(NamedTuple):
    """Seconds until the broker had all commands, and until the last response arrived."""

    published: float
    answered: float


async def run(directory: Path, rounds: int) -> str:
    """Send one burst per round in each mode; return a table."""
    logging.getLogger("mqtt").setLevel(logging.ERROR)  # it warns about pending publishes
    async with (
        ObjectServer(directory / "s3") as server,
        stages(directory, server) as scenes,
    ):
        bursts: dict[str, list[_Burst]] = {mode: [] for mode in scenes}
        for number in range(rounds):
            for mode, scene in scenes.items():
                bursts[mode].append(await _burst(scene.operator, f"round-{number}"))
    head = [f"{_COMMANDS:,} commands, median of {rounds}", "all published", "last response", "rate"]
    return table(head, [_row(mode, measured) for mode, measured in bursts.items()])


def _row(mode: str, bursts: list[_Burst]) -> list[str]:
    published = statistics.median(burst.published for burst in bursts)
    answered = statistics.median(burst.answered for burst in bursts)
    return [mode, f"{published:.2f} s", f"{answered:.2f} s", f"{_COMMANDS / answered:.0f}/s"]


async def _burst(operator: Operator, name: str) -> _Burst:
    operator.received.clear()
    expected = {f"{name}-{number}" for number in range(_COMMANDS)}
    missing = set(expected)

    def complete(received: DeviceMessage) -> bool:
        missing.discard(received.message.get("command_id", ""))
        return not missing

    start = time.perf_counter()
    answering = asyncio.create_task(operator.wait_for(complete, within=120))
    await asyncio.gather(*(operator.send("disk_space", command_id=id_) for id_ in expected))
    published = time.perf_counter() - start
    await answering
    answered = time.perf_counter() - start
    await operator.ask("status", command_id=f"{name}-last")
    ids = [
        received.message["command_id"]
        for received in operator.received
        if received.topic == "responses"
    ]
    assert sorted(ids) == sorted([*expected, f"{name}-last"]), "a command had two responses"
    return _Burst(published, answered)
