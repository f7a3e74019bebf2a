"""Measures the time from the start of the process to its first status.

It has then subscribed to its commands.
"""

from __future__ import annotations

import time
from pathlib import Path

from sandbox.servers import ObjectServer

from .figures import table
from .stage import stages

__all__ = ["ROUNDS", "run"]

ROUNDS = 10
"""An additional first round, to warm up, does not count."""


async def run(directory: Path, rounds: int) -> str:
    """Stop and start the daemon once per round in each mode."""
    seconds: dict[str, list[float]] = {}
    async with (
        ObjectServer(directory / "s3") as server,
        stages(directory, server) as scenes,
    ):
        for number in range(rounds + 1):
            for mode, scene in scenes.items():
                await scene.device.terminate()
                scene.operator.received.clear()
                start = time.perf_counter()
                await scene.device.start()
                await scene.operator.wait_for(
                    lambda received: received.topic == "status", within=30
                )
                if number:
                    seconds.setdefault(mode, []).append(time.perf_counter() - start)
    head = ["start to subscribed", "median", "fastest", "slowest"]
    return table(head, [_row(mode, taken) for mode, taken in seconds.items()])


def _row(mode: str, seconds: list[float]) -> list[str]:
    middle = sorted(seconds)[len(seconds) // 2]
    return [mode, *(f"{figure:.2f} s" for figure in (middle, min(seconds), max(seconds)))]
