"""Runs the demo as a program: its directory, signals, time limit and exit status."""

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
from .failure import Failed, Interrupted, run_monitored
from .interactive import interact
from .screen import Lines, Screen, amount
from .steps import STEPS, StepRunner
from .terminal import Terminal
from .world import World

__all__ = ["run"]

_OTHER_SECONDS = 4  # that the download to be cancelled would take
_EXTRA_SPACE = 100_000_000  # bytes for everything but the models
_TIME_LIMIT = 110.0  # seconds
_INTERRUPTED = 130  # the exit status that shells give after Ctrl-C
_TITLE = "aws.samples.S3Downloader"
_TEXT = (
    "A Greengrass component that downloads large models from S3 to edge devices under MQTT"
    " command, and keeps a registry of them in a shadow. This demo takes about 45 seconds and"
    " checks every step. Everything runs on this machine, and is removed afterwards."
)


def run(*, size: int, rate: int, reading_time: float) -> int:
    """Run the demo and return its exit status: 0, 1 for a failure, 130 if it was interrupted.

    The model has `size` bytes. The link carries `rate` bytes per second. On a terminal, the demo
    waits `reading_time` seconds before each step.
    """
    _clean_environment()
    try:
        _check_space(2 * (size + _OTHER_SECONDS * rate) + _EXTRA_SPACE)
        status = asyncio.run(_run(size, rate, reading_time))
    except Exception as error:
        print(_sentence(error), file=sys.stderr)
        return 1
    print("Everything is stopped and removed.")
    return status


def _clean_environment() -> None:
    """Remove the user's AWS settings and proxies; print `?` for what the terminal cannot show."""
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
            f"The demo needs {amount(needed)} in {directory}, but only {amount(free)} are free"
            " there; delete some files, or set TMPDIR to another directory."
        )


async def _run(size: int, rate: int, reading_time: float) -> int:
    """Run all steps; return the exit status once everything is stopped and removed."""
    interrupted = _interrupt_event()
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with _own_directory() as directory, _screen(directory, reading_time) as screen:
        screen.begin(_TITLE, _TEXT)
        world = World(directory, rate=rate, observe=screen.message)
        monitored = functools.partial(_monitored, world, screen, interrupted)
        try:
            async with contextlib.AsyncExitStack() as stack:
                steps = StepRunner(
                    world, screen, stack, size=size, other_size=_OTHER_SECONDS * rate
                )
                async with timeout(_TIME_LIMIT):
                    await monitored(steps.run())
                screen.end()
                if is_interactive:
                    with contextlib.suppress(Interrupted):
                        await monitored(interact(world, screen))
        except Interrupted:
            return _INTERRUPTED
        except Exception as error:
            screen.fail(_sentence(error), world.log_tail())
            return 1
    return 0


async def _monitored(
    world: World, screen: Screen, interrupted: asyncio.Event, work: Coroutine[Any, Any, None]
) -> None:
    """Run `work`, and keep the screen up to date meanwhile.

    Raises Interrupted if the viewer ends the demo or closes its output, and Failed if the
    component or a server has ended.
    """
    monitors = (_wait_interrupted(interrupted), screen.keep_refreshed(), world.watch())
    try:
        await run_monitored(*monitors, work=work)
    except (Failed, Interrupted):
        raise
    except Exception:
        await world.check()  # raises the cause, if it is a process that has ended
        raise


@contextlib.contextmanager
def _own_directory() -> Iterator[Path]:
    """Make a temporary directory, and redirect standard error to a file in it."""
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


def _screen(base: Path, reading_time: float) -> Screen:
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return Terminal(STEPS, base, reading_time=reading_time)
    return Lines(STEPS, base)


def _interrupt_event() -> asyncio.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted.set)
    return interrupted


async def _wait_interrupted(interrupted: asyncio.Event) -> NoReturn:
    await interrupted.wait()
    raise Interrupted


def _sentence(error: Exception) -> str:
    """Return what went wrong, as a sentence for the viewer."""
    if isinstance(error, TimeoutError):
        return (
            f"The demo took longer than {_TIME_LIMIT:g} s; run it again when the machine is idle."
        )
    if isinstance(error, (Failed, ProcessError, OSError)):
        return str(error)
    return f"The demo itself has a bug: {type(error).__name__}: {error}"
