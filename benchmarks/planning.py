"""Measures the memory and the time for the plan of a prefix of 100,000 keys."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import NamedTuple

from sandbox.servers import ObjectServer

from .figures import table
from .stage import Stage, fill, stages
from .usage import memory, peak_rss, restart_peak

__all__ = ["ROUNDS", "run"]

ROUNDS = 2
_KEYS = 100_000


class _Plan(NamedTuple):
    """The seconds from the command to the start of the fetch, and the RSS in bytes.

    `rss_before` is that before the command, `rss_peak` the highest until the fetch started.
    """

    seconds: float
    rss_before: int
    rss_peak: int


async def run(directory: Path, rounds: int) -> str:
    """Start a download of the prefix in each mode, and cancel it when the fetch starts."""
    async with (
        ObjectServer(directory / "s3") as server,
        stages(directory, server) as scenes,
    ):
        keys = [f"many/{number:06}" for number in range(_KEYS)]
        await fill(server, keys, size=16, source=directory / "source")
        plans: dict[str, list[_Plan]] = {mode: [] for mode in scenes}
        for number in range(rounds):
            for mode, scene in scenes.items():
                target = directory / mode / "models" / "many"
                plans[mode].append(await _plan(scene, target, f"plan-{number}"))
    head = [f"{_KEYS:,} keys", "command to the first byte", "RSS before", "peak RSS"]
    return table(head, [_row(mode, measured) for mode, measured in plans.items()])


def _row(mode: str, plans: list[_Plan]) -> list[str]:
    seconds = statistics.median(plan.seconds for plan in plans)
    sizes = (plans[0].rss_before, max(plan.rss_peak for plan in plans))
    return [mode, f"{seconds:.1f} s", *(f"{size / 2**20:.0f} MiB" for size in sizes)]


async def _plan(scene: Stage, target: Path, download_id: str) -> _Plan:
    operator, pid = scene.operator, scene.device.pid
    before = memory(pid).rss
    restart_peak(pid)
    start = time.perf_counter()
    await operator.send(
        "download", bucket="models", key="many/", destination=str(target), download_id=download_id
    )
    await operator.event("download_started", download_id, within=300)
    plan = _Plan(time.perf_counter() - start, before, peak_rss(pid))
    cancelled = await operator.ask("cancel", download_id=download_id, within=60)
    assert cancelled["success"], cancelled
    return plan
