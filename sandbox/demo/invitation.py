"""After the show: how to talk to the device, from another terminal."""

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

__all__ = ["invite"]

_COMMANDS = f"s3downloader/{THING}/commands"
_SHADOW = f"$aws/things/{THING}/shadow/name/models/get"


async def invite(world: World, screen: Screen) -> None:
    """Show the command lines, then what is said, until Enter is pressed."""

    async def subscribe(client: aiomqtt.Client) -> None:
        await client.subscribe(_COMMANDS, qos=1)

    def show(message: aiomqtt.Message) -> None:
        assert isinstance(message.payload, bytes)
        screen.message(message.topic.value, message.payload)

    async with BrokerConnection(world.broker.port, on_connect=subscribe, on_message=show):
        screen.heading("Your turn, from another terminal")
        for what, line in _lines(world):
            screen.tell(what)
            screen.verbatim(line)
        screen.hint("Enter or Ctrl-C ends the sandbox and removes its files.")
        await _enter()


def _lines(world: World) -> list[tuple[str, str]]:
    """What to say, and the command line for it."""
    port = world.broker.port
    destination = str(world.models / "asr-1B")
    return [
        ("Hear all that the device says:", _client("sub", port, f"s3downloader/{THING}/#", "-v")),
        ("Ask how it is:", _command(port, command="status")),
        ("See what is on S3:", _command(port, command="list", list_type="s3", bucket="models")),
        (
            "Fetch the other model after all:",
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
            "Read the shadow in the cloud:",
            _client("rr", port, _SHADOW, "-e", f"{_SHADOW}/accepted", "-m", "{}"),
        ),
    ]


def _command(port: int, **command: Any) -> str:
    return _client("pub", port, _COMMANDS, "-m", json.dumps(command, separators=(",", ":")))


def _client(which: str, port: int, topic: str, *options: str) -> str:
    return shlex.join(
        [f"mosquitto_{which}", "-h", "127.0.0.1", "-p", str(port), "-t", topic, *options]
    )


async def _enter() -> None:
    """Return when a line has been entered from now on, or the input has ended."""
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
