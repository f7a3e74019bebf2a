"""What tests of every room need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


async def eventually(probe: Callable[[], T], *, within: float = 10.0) -> T:
    """Return the first truthy value of `probe`; fail after `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not (value := probe()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {within} s: {probe}"
        await asyncio.sleep(0.01)
    return value


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie that waits for its parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
