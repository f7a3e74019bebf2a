"""Processes end with the process that started them, and failures are explained."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from sandbox.processes import Process, ProcessError, accepts, find_program, free_ports
from tests.support import eventually, is_running

PARENT = """
import asyncio, pathlib, sys
from sandbox.processes import Process

async def ready():
    return True

async def main():
    child = await Process.start(["sleep", "600"], log=pathlib.Path(sys.argv[1]), ready=ready)
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


def children() -> set[str]:
    """Return the IDs of the child processes of this process."""
    own = f"/proc/{os.getpid()}/task/{os.getpid()}"
    return set(Path(own, "children").read_text().split())


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def at_once() -> bool:
    return True


async def never() -> bool:
    return False


async def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *python(PARENT),
        str(tmp_path / "log"),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not is_running(child))


async def test_a_process_that_ends_too_early_is_explained_by_its_log(tmp_path: Path) -> None:
    command = python("import sys; sys.exit('the port is taken')")
    with pytest.raises(ProcessError, match=r"status 1(.|\n)*the port is taken"):
        await Process.start(command, log=tmp_path / "log", ready=never)


async def test_a_process_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(ProcessError, match=r"sleep was not ready within 0.2 s"):
        await Process.start(["sleep", "600"], log=tmp_path / "log", ready=never, within=0.2)
    assert children() <= before


async def test_it_ends_at_sigterm(tmp_path: Path) -> None:
    process = await Process.start(["sleep", "600"], log=tmp_path / "log", ready=at_once)
    assert process.returncode is None
    assert await process.stop() == -signal.SIGTERM


async def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def deaf() -> bool:
        return log.read_text() == "deaf\n"

    command = python(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); signal.pause()"
    )
    process = await Process.start(command, log=log, ready=deaf)
    assert await process.stop(grace=0.1) == -signal.SIGKILL


async def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    with socket.create_server(("127.0.0.1", ports[0])):
        assert await accepts(ports[0])
        assert not await accepts(ports[1])


def test_a_missing_program_says_how_to_get_it() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program is not installed; make it"):
        find_program("no-such-program", hint="make it")
