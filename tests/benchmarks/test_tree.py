"""A tree of processes is measured as one, including descendants that have ended."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.tree import Tree, watched
from tests.support import eventually

MIB = 1 << 20

HOLD = """
import subprocess, sys

held = b"x" * (32 << 20)
more = int(sys.argv[1])
if more:
    subprocess.run([sys.executable, "-c", sys.argv[2], str(more - 1), sys.argv[2]])
else:
    print("all hold", flush=True)
    sys.stdin.read()
"""

WORK = """
import time

while time.process_time() < 0.3:
    pass
"""

HIRE = """
import subprocess, sys

subprocess.run([sys.executable, "-c", sys.argv[1]])
print("done", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def python(code: str, *arguments: str) -> AsyncIterator[int]:
    """Run Python code; yield its process ID once it has printed a line.

    It must end with its input.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield process.pid
    finally:
        await process.communicate(b"")


async def test_the_memory_of_all_generations_counts() -> None:
    async with python(HOLD, "2", HOLD) as pid:
        tree = Tree(pid)
        assert len(tree.members()) == 3
        assert tree.members()[0] == pid
        tree.sample()
        assert 3 * 32 * MIB < tree.peak.pss <= tree.peak.rss


async def test_the_peak_outlives_the_processes() -> None:
    async with python(HOLD, "1", HOLD) as pid, watched(pid) as tree:
        await eventually(lambda: tree.peak.pss > 2 * 32 * MIB)
    peak = tree.peak
    tree.sample()
    assert tree.members() == []
    assert tree.peak == peak


async def test_the_time_of_ended_children_counts() -> None:
    async with python(HIRE, WORK) as pid:
        assert Tree(pid).cpu_seconds() >= 0.29  # in steps of 10 ms
        assert Tree(pid).members() == [pid]


def test_what_is_beside_a_tree_does_not_belong_to_it() -> None:
    tree = Tree(os.getpid())
    assert os.getppid() not in tree.members()
    assert tree.members()[0] == os.getpid()
