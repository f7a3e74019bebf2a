"""The interactive part after the steps: command lines to try in another terminal."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import termios
from typing import Any

import aiomqtt

from ..mqtt import BrokerConnection
from .screen import Screen
from .world import THING, World

__all__ = ["interact"]

_COMMANDS = f"s3downloader/{THING}/commands"
_SHADOW = f"$aws/things/{THING}/shadow/name/models/get"


async def interact(world: World, screen: Screen) -> None:
    """Show the command lines, then the messages of both directions, until Enter is pressed."""

    async def subscribe(client: aiomqtt.Client) -> None:
        await client.subscribe(_COMMANDS, qos=1)

    def show(message: aiomqtt.Message) -> None:
        assert isinstance(message.payload, bytes)
        screen.message(message.topic.value, message.payload)

    async with BrokerConnection(world.broker.port, on_connect=subscribe, on_message=show):
        screen.heading("Your turn: try these commands in another terminal")
        for what, line in _lines(world):
            screen.remark(what)
            screen.verbatim(line)
        screen.hint("Enter or Ctrl-C ends the sandbox and removes its files.")
        await _wait_for_enter()


def _lines(world: World) -> list[tuple[str, str]]:
    """Return pairs of what a command line does, and the command line."""
    port = world.broker.port
    destination = str(world.models / "asr-1B")
    return [
        ("Show all messages:", _client("sub", port, f"s3downloader/{THING}/#", "-v")),
        ("Request the status:", _command(port, command="status")),
        (
            "List the objects in the bucket:",
            _command(port, command="list", list_type="s3", bucket="models"),
        ),
        (
            "Download the other model:",
            _command(
                port,
                command="download",
                bucket="models",
                key="asr-1B/",
                destination=destination,
                download_id="again",
            ),
        ),
        (
            "Read the shadow from the cloud:",
            _client("rr", port, _SHADOW, "-e", f"{_SHADOW}/accepted", "-m", "{}"),
        ),
    ]


def _command(port: int, **command: Any) -> str:
    return _client("pub", port, _COMMANDS, "-m", json.dumps(command, separators=(",", ":")))


def _client(which: str, port: int, topic: str, *options: str) -> str:
    """Return a command line of mosquitto's client `which`: `pub`, `sub` or `rr`."""
    return shlex.join(
        [f"mosquitto_{which}", "-h", "127.0.0.1", "-p", str(port), "-t", topic, *options]
    )


async def _wait_for_enter() -> None:
    """Wait until Enter is pressed, or standard input ends. Earlier input is discarded."""
    loop, pressed, keyboard = asyncio.get_running_loop(), asyncio.Event(), sys.stdin.fileno()

    def read() -> None:
        typed = os.read(keyboard, 1024)
        if b"\n" in typed or not typed:
            pressed.set()

    termios.tcflush(keyboard, termios.TCIFLUSH)
    loop.add_reader(keyboard, read)
    try:
        await pressed.wait()
    finally:
        loop.remove_reader(keyboard)
