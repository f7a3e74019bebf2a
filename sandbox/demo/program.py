"""The demo as a program: its directory, its signals, its exit status."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, NoReturn

from s3downloader.core.aio import timeout

from ..processes import ProcessError
from .failure import Failed, Interrupted, unless
from .invitation import invite
from .screen import Lines, Screen, amount
from .story import STEPS, Story
from .terminal import Terminal
from .world import World

__all__ = ["run"]

_OTHER_SECONDS = 4  # that the model which is given up would take
_ROOM = 100_000_000  # bytes for all but the models
_LONGEST = 110.0  # seconds
_INTERRUPTED = 130  # as a shell has it after Ctrl-C
_TITLE = "aws.samples.S3Downloader"
_TEXT = (
    "A Greengrass component that brings large models from S3 to edge devices under MQTT command,"
    " and keeps a registry of them in a shadow. Watch it work: about 45 seconds, every step"
    " checked, everything on this machine and gone afterwards."
)


def run(*, size: int, rate: int, reading_time: float) -> int:
    """Show the demo and return its exit status.

    The model has `size` bytes, and the link carries `rate` bytes a second; on a terminal the
    reader gets `reading_time` seconds before each step.
    """
    _forget_surroundings()
    try:
        _check_space(2 * (size + _OTHER_SECONDS * rate) + _ROOM)
        status = asyncio.run(_perform(size, rate, reading_time))
    except Exception as error:
        print(_sentence(error), file=sys.stderr)
        return 1
    print("Everything is stopped and removed.")
    return status


def _forget_surroundings() -> None:
    """Let no credentials, profile, proxy or poor character set of the user matter."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _check_space(needed: int) -> None:
    directory = tempfile.gettempdir()
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise Failed(
            f"The demo needs {amount(needed)} in {directory}, and {amount(free)} are free there;"
            " make room, or let TMPDIR name a directory with more."
        )


async def _perform(size: int, rate: int, reading_time: float) -> int:
    """Return the exit status, when all is stopped and removed."""
    interrupted = _interruption()
    someone_answers = sys.stdin.isatty() and sys.stdout.isatty()
    with _own_directory() as directory, _screen(directory, reading_time) as screen:
        screen.begin(_TITLE, _TEXT)
        world = World(directory, rate=rate, observe=screen.message)
        mind = functools.partial(_mind, world, screen, interrupted)
        try:
            async with contextlib.AsyncExitStack() as stack:
                story = Story(world, screen, stack, size=size, other_size=_OTHER_SECONDS * rate)
                async with timeout(_LONGEST):
                    await mind(story.tell())
                screen.end()
                if someone_answers:
                    with contextlib.suppress(Interrupted):
                        await mind(invite(world, screen))
        except Interrupted:
            return _INTERRUPTED
        except Exception as error:
            screen.fail(_sentence(error), world.log_tail())
            return 1
    return 0


async def _mind(
    world: World, screen: Screen, interrupted: asyncio.Event, work: Coroutine[Any, Any, None]
) -> None:
    """Do `work` for as long as someone watches and all runs that should."""
    try:
        await unless(_heed(interrupted), screen.keep_fresh(), world.watch(), work=work)
    except (Failed, Interrupted):
        raise
    except Exception:
        await world.look()  # raises the cause, rather than what came of it
        raise


@contextlib.contextmanager
def _own_directory() -> Iterator[Path]:
    """A directory for everything, also for what libraries say on the standard error meanwhile."""
    with tempfile.TemporaryDirectory(prefix="s3downloader-demo-") as name:
        directory = Path(name).resolve()
        before = os.dup(2)
        with (directory / "stderr.log").open("wb") as log:
            os.dup2(log.fileno(), 2)
        try:
            yield directory
        finally:
            os.dup2(before, 2)
            os.close(before)


def _screen(here: Path, reading_time: float) -> Screen:
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return Terminal(STEPS, here, reading_time=reading_time)
    return Lines(STEPS, here)


def _interruption() -> asyncio.Event:
    """Return what is set when someone wants the demo to end."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted.set)
    return interrupted


async def _heed(interrupted: asyncio.Event) -> NoReturn:
    await interrupted.wait()
    raise Interrupted


def _sentence(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"It took longer than {_LONGEST:g} s; is this machine busy with something else?"
    if isinstance(error, (Failed, ProcessError, OSError)):
        return str(error)
    return f"The demo itself has a fault: {type(error).__name__}: {error}"
