"""Measures memory and CPU time of the daemon while it is idle."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sandbox.servers import ObjectServer

from .figures import table
from .stage import download, stages
from .usage import cpu_seconds, memory

__all__ = ["ROUNDS", "run"]

ROUNDS = 1
_MINUTE = 60.0


async def run(directory: Path, rounds: int) -> str:
    """Measure each mode after the start and after a download, for one minute per round."""
    async with (
        ObjectServer(directory / "s3") as server,
        stages(directory, server) as scenes,
    ):
        await server.make("model.bin", 64 << 20)
        pids = {mode: scene.device.pid for mode, scene in scenes.items()}
        rows = await _watch(pids, rounds, "after the start")
        for mode, scene in scenes.items():
            await download(scene.operator, "model.bin", directory / mode / "models", "first")
        rows += await _watch(pids, rounds, "after a download")
    return table(["idle daemon", "RSS", "PSS", "CPU, of one core"], rows)


async def _watch(pids: dict[str, int], rounds: int, when: str) -> list[list[str]]:
    await asyncio.sleep(2)  # until the work after the start or the download is done
    before = {mode: cpu_seconds(pid) for mode, pid in pids.items()}
    await asyncio.sleep(rounds * _MINUTE)
    rows = []
    for mode, pid in pids.items():
        used = (cpu_seconds(pid) - before[mode]) / (rounds * _MINUTE)
        rss, pss = memory(pid)
        rows.append([f"{mode}, {when}", _mib(rss), _mib(pss), f"{used:.2%}"])
    return rows


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
