"""Measures the time and the bytes upstream of small downloads, depending on their number."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec

from sandbox.operator import DeviceMessage
from sandbox.servers import ObjectServer

from .figures import table
from .stage import Stage, stage
from .usage import cpu_seconds

__all__ = ["ROUNDS", "run"]

ROUNDS = 1
_COUNTS = (1, 200, 1_000)
_BYTES = 16 << 10
_KINDS = ("response", "events", "status", "notices")


class _Cost(NamedTuple):
    """The cost of `downloads` that were started at once.

    `seconds` is the time to the last completion, `cpu` the CPU time in seconds of the daemon and
    the processes that it started. `messages` and `bytes` count the device's messages and their
    payloads, by kind.
    """

    downloads: int
    seconds: float
    cpu: float
    messages: Counter[str]
    bytes: Counter[str]


class _Upstream:
    """Counts the device's messages and the bytes of their payloads, by kind."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def observe(self, topic: str, payload: bytes) -> None:
        level = topic.rpartition("/")[2]
        if level not in ("responses", "status"):
            return
        message = msgspec.json.decode(payload)
        if level == "responses":
            kind = "events" if "event" in message else "response"
        else:
            kind = "notices" if "level" in message else "status"
        self.messages[kind] += 1
        self.bytes[kind] += len(payload)


async def run(directory: Path, rounds: int) -> str:
    """Start 1, 200 and 1,000 downloads of one object at once, each time on a new device."""
    logging.getLogger("mqtt").setLevel(logging.ERROR)  # it warns about pending publishes
    async with ObjectServer(directory / "s3") as server:
        await server.make("small.bin", _BYTES)
        costs = [
            await _measure(directory / f"{number}-{count}", server, count)
            for number in range(rounds)
            for count in _COUNTS
        ]
    return f"{_times(costs)}\n\n{_upstream(costs)}"


async def _measure(directory: Path, server: ObjectServer, count: int) -> _Cost:
    upstream = _Upstream()
    async with stage(directory, "mqtt", server, observe=upstream.observe) as scene:
        await _download(scene, directory / "models" / "first", ["first"])  # to warm up
        await _idle(scene)
        upstream.messages.clear()
        upstream.bytes.clear()
        pid = scene.device.pid
        cpu = cpu_seconds(pid, with_ended_children=True)
        names = [f"d-{number:04}" for number in range(count)]
        start = time.perf_counter()
        await _download(scene, directory / "models", names)
        seconds = time.perf_counter() - start
        cpu = cpu_seconds(pid, with_ended_children=True) - cpu
        await _idle(scene)
        return _Cost(count, seconds, cpu, upstream.messages, upstream.bytes)


async def _download(scene: Stage, models: Path, names: list[str]) -> None:
    """Download the object into a directory for each of `names`; wait until all are complete."""
    missing = set(names)
    scene.operator.received.clear()

    def is_last(received: DeviceMessage) -> bool:
        message = received.message
        assert message.get("success", True), message
        if message.get("event") == "download_completed":
            missing.discard(message["download_id"])
        return not missing

    ending = asyncio.create_task(scene.operator.wait_for(is_last, within=600))
    for name in names:
        await scene.operator.send(
            "download",
            bucket="models",
            key="small.bin",
            destination=str(models / name),
            download_id=name,
        )
    await ending


async def _idle(scene: Stage) -> None:
    """Wait until the status reports no active download."""
    await scene.operator.wait_for(
        lambda received: (
            received.topic == "status" and received.message.get("active_downloads") == 0
        ),
        within=30,
    )


def _times(costs: list[_Cost]) -> str:
    head = ["downloads at once", "to the last completion", "for each", "CPU time for each"]
    rows = [
        [
            f"{c.downloads:,}",
            f"{c.seconds:.2f} s",
            f"{1_000 * c.seconds / c.downloads:.1f} ms",
            f"{1_000 * c.cpu / c.downloads:.1f} ms",
        ]
        for c in costs
    ]
    return table(head, rows)


def _upstream(costs: list[_Cost]) -> str:
    """Return a table of the bytes of payload per download."""
    head = ["bytes upstream for a download", *_KINDS, "together", "messages"]
    rows = [
        [
            f"{c.downloads:,} at once",
            *(f"{c.bytes[kind] / c.downloads:,.0f}" for kind in _KINDS),
            f"{sum(c.bytes.values()) / c.downloads:,.0f}",
            f"{sum(c.messages.values()) / c.downloads:.1f}",
        ]
        for c in costs
    ]
    return table(head, rows)
