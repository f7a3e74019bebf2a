"""Runs the demo as a process, with its own directory for temporary files."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from sandbox.processes import Process
from tests.support import eventually

__all__ = ["ROOT", "DemoRun", "TerminalRun", "at_once", "on_terminal", "without_terminal"]

ROOT = Path(__file__).parent.parent.parent
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_QUICK = ("--size", "12", "--rate", "2", "--reading-time", "0")
_LONGEST = 60.0  # seconds until a text is shown, also on a busy machine
_COMMAND = (sys.executable, "-m", "sandbox.demo", *_QUICK)


class DemoRun:
    """A run of the demo whose output goes to the file `log`."""

    def __init__(self, process: Process, log: Path, temporary: Path) -> None:
        self._process = process
        self._log = log
        self._temporary = temporary

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    async def shows(self, text: str) -> None:
        """Wait until the output has `text`."""
        await eventually(
            lambda: text in self.output or self._process.returncode is not None, within=_LONGEST
        )
        assert text in self.output

    async def ended(self) -> int:
        """Wait until the run ends; return the exit status."""
        return await self._process.wait()

    def left_behind(self) -> list[str]:
        """Return the names of files and processes that a run should have removed at its end."""
        files = [path.name for path in self._temporary.iterdir()]
        return [*files, *_processes_using(self._temporary)]


@contextlib.asynccontextmanager
async def without_terminal(
    directory: Path, *options: str, checkout: Path = ROOT
) -> AsyncIterator[DemoRun]:
    """Run the demo of `checkout` with its output in a file; stop it at the end of the context."""
    temporary, log = directory / "tmp", directory / "output"
    temporary.mkdir()
    process = await Process.start(
        [*_COMMAND, *options], log=log, ready=at_once, env=_environment(temporary), cwd=checkout
    )
    try:
        yield DemoRun(process, log, temporary)
    finally:
        await process.stop()


class TerminalRun:
    """A run of the demo on a pseudo-terminal; it ends when the terminal is closed."""

    def __init__(self, child: asyncio.subprocess.Process, terminal: int) -> None:
        self._child = child
        self._terminal = terminal
        self._seen = bytearray()

    @property
    def output(self) -> str:
        """The output so far, without escape sequences."""
        return _ESCAPES.sub("", self._seen.decode(errors="replace"))

    def read(self) -> None:
        """Read what the demo has written to the terminal."""
        with contextlib.suppress(OSError):  # the other end is closed
            self._seen += os.read(self._terminal, 65536)

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    async def shows(self, text: str) -> None:
        """Wait until the output has `text`."""
        await eventually(lambda: text in self.output, within=_LONGEST)

    async def ended(self) -> int:
        """Wait until the run ends; return the exit status."""
        return await self._child.wait()


@contextlib.asynccontextmanager
async def on_terminal(directory: Path) -> AsyncIterator[TerminalRun]:
    """Run the demo on a pseudo-terminal of its own."""
    temporary = directory / "tmp"
    temporary.mkdir()
    terminal, end = os.openpty()
    child = await asyncio.create_subprocess_exec(
        *_COMMAND,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**_environment(temporary), "TERM": "xterm-256color"},
        cwd=ROOT,
    )
    os.close(end)
    demo = TerminalRun(child, terminal)
    loop = asyncio.get_running_loop()
    loop.add_reader(terminal, demo.read)
    try:
        yield demo
    finally:
        loop.remove_reader(terminal)
        os.close(terminal)
        await child.wait()


async def at_once() -> bool:
    """Return that a process is ready as soon as it has started."""
    return True


def _environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary)}


def _processes_using(directory: Path) -> Iterator[str]:
    """Yield the names of processes with `directory` in their command line or environment."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if os.fsencode(directory) in known:
                yield (process / "comm").read_text().strip()
