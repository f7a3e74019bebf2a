"""Starts child processes that end when the process that started them ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import socket
import sysconfig
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from s3downloader.core.aio import timeout
from s3downloader.system.die_with_parent import die_with_parent

__all__ = ["Process", "ProcessError", "accepts", "find_program", "free_ports"]

_LOG_TAIL = 2000  # bytes of the log that an error shows


class ProcessError(Exception):
    """A process has ended early, or was not ready in time; the message has the end of its log."""


class Process:
    """A child process in its own session, with its output in a log file. See `Process.start`.

    The kernel kills it when the thread that started it ends, even after kill -9. So it must be
    started from the main thread.
    """

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self._name = name
        self._child = child
        self._log = log

    @classmethod
    async def start(
        cls,
        command: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], Awaitable[bool]],
        within: float = 30.0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start `command` and wait until `ready` returns true.

        `env` replaces the environment; None inherits it. If the process ends before it is ready,
        or is not ready `within` seconds, it is killed and ProcessError is raised.
        """
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *die_with_parent(*map(str, command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        process = cls(Path(command[0]).name, child, log)
        try:
            await process._wait_ready(ready, within)
        except BaseException:
            await process.stop(grace=0)
            raise
        return process

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        return self._child.returncode

    async def wait(self) -> int:
        """Wait until the process ends by itself, and return its exit status."""
        return await self._child.wait()

    async def stop(self, *, grace: float = 5.0) -> int:
        """Send SIGTERM, and SIGKILL after `grace` seconds; return the exit status."""
        if grace > 0 and self.returncode is None:
            self._child.terminate()
            with contextlib.suppress(TimeoutError):
                async with timeout(grace):
                    await self._child.wait()
        if self.returncode is None:
            self._child.kill()
        return await self._child.wait()

    async def _wait_ready(self, ready: Callable[[], Awaitable[bool]], within: float) -> None:
        try:
            async with timeout(within):
                while not await ready():
                    if self.returncode is not None:
                        raise self._error(
                            f"ended with status {self.returncode} before it was ready"
                        )
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise self._error(f"was not ready within {within:g} s") from None

    def _error(self, what: str) -> ProcessError:
        tail = self._log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        return ProcessError(f"{self._name} {what}; the end of {self._log}:\n{tail}")


def find_program(name: str, *, hint: str) -> str:
    """Return the path of a program of this Python environment, or else of the system.

    Raises FileNotFoundError with `hint`, which says how to install it.
    """
    folders = [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    if program := shutil.which(name, path=os.pathsep.join(folders)):
        return program
    raise FileNotFoundError(f"{name} is not installed; {hint}")


async def accepts(port: int) -> bool:
    """Return whether something accepts connections on 127.0.0.1:`port`."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


_handed_out: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that are free on 127.0.0.1, none of them returned before.

    They are below Linux's range for outgoing connections (from 32768), so that no client takes
    the port of a server while the server restarts. Raises OSError if there are not enough.
    """
    ports: list[int] = []
    for port in random.sample(range(15_000, 32_768), 10 * count):
        if port in _handed_out:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
            _handed_out.add(port)
        if len(ports) == count:
            return ports
    raise OSError(f"there are fewer than {count} free ports on 127.0.0.1; stop other servers")
