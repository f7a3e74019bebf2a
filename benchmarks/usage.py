"""Reads the memory and the CPU time of a process. Source: proc(5)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["Memory", "cpu_seconds", "memory", "peak_rss", "restart_peak", "rss"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory(NamedTuple):
    """The resident memory in bytes: RSS, and PSS, which divides shared pages by their users."""

    rss: int
    pss: int


def memory(pid: int) -> Memory:
    """Return the present memory of a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Memory(rss=_kilobytes(rollup, "Rss"), pss=_kilobytes(rollup, "Pss"))


def rss(pid: int) -> int:
    """Return the present RSS of a process in bytes, quickly; 0 for a zombie."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def cpu_seconds(pid: int, *, with_ended_children: bool = False) -> float:
    """Return the CPU time of a process so far, in seconds, in steps of 10 ms.

    With `with_ended_children` it includes that of children that have ended and were waited for.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    times = fields[11:15] if with_ended_children else fields[11:13]
    return sum(map(int, times)) / _TICKS


def restart_peak(pid: int) -> None:
    """Reset the peak of `peak_rss`."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss(pid: int) -> int:
    """Return the highest RSS of a process in bytes since `restart_peak`."""
    return _kilobytes(Path(f"/proc/{pid}/status").read_text(), "VmHWM")


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found, f"the kernel does not report {name}"
    return int(found[1]) * 1024
