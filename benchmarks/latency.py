"""Measures the time from a command to its response, one command after another."""

from __future__ import annotations

import itertools
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import aiomqtt

from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer

from .figures import percentile, table
from .stage import download, stages

__all__ = ["ROUNDS", "run"]

ROUNDS = 5
_COMMANDS = 100
"""The number of commands per round. An additional first round, to warm up, does not count."""

_MIX: list[dict[str, Any]] = [
    {"command": "status"},
    {"command": "list"},
    {"command": "details", "download_id": "known"},
    {"command": "disk_space"},
    {"command": "model_list"},
]


async def run(directory: Path, rounds: int) -> str:
    """Measure commands in each mode, and messages through the broker alone; return a table."""
    seconds: dict[str, list[float]] = {}
    async with (
        ObjectServer(directory / "s3") as server,
        stages(directory, server) as scenes,
    ):
        await server.make("model.bin", 1 << 20)
        for mode, scene in scenes.items():
            await download(scene.operator, "model.bin", directory / mode / "models", "known")
        for number in range(rounds + 1):
            for mode, scene in scenes.items():
                measured = {
                    f"{mode}: command to response": await _ask(scene.operator),
                    f"{mode}: echo of the broker alone": await _echo(scene.broker),
                }
                for name, taken in measured.items():
                    seconds.setdefault(name, []).extend(taken if number else ())
    head = [f"{rounds * _COMMANDS} times", "median", "p99", "longest"]
    return table(head, [_row(name, taken) for name, taken in seconds.items()])


def _row(name: str, seconds: list[float]) -> list[str]:
    figures = (statistics.median(seconds), percentile(seconds, 99), max(seconds))
    return [name, *(f"{1_000 * figure:.1f} ms" for figure in figures)]


async def _ask(operator: Operator) -> list[float]:
    seconds = []
    for question in itertools.islice(itertools.cycle(_MIX), _COMMANDS):
        operator.received.clear()
        start = time.perf_counter()
        response = await operator.ask(**question)
        seconds.append(time.perf_counter() - start)
        assert response["success"], response
    return seconds


async def _echo(broker: Broker) -> list[float]:
    seconds = []
    async with aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        protocol=aiomqtt.ProtocolVersion.V5,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    ) as client:
        await client.subscribe("echo", qos=1)
        messages = aiter(client.messages)
        for _ in range(_COMMANDS):
            start = time.perf_counter()
            await client.publish("echo", b"x", qos=1)
            await anext(messages)
            seconds.append(time.perf_counter() - start)
    return seconds
