"""What a process uses, as the kernel counts it (proc(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["Memory", "cpu_seconds", "memory", "peak_rss", "restart_peak", "rss"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory(NamedTuple):
    """Bytes that are resident: all, and with pages that are shared counted in proportion."""

    rss: int
    pss: int


def memory(pid: int) -> Memory:
    """Return what a process has in memory now."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Memory(rss=_kilobytes(rollup, "Rss"), pss=_kilobytes(rollup, "Pss"))


def rss(pid: int) -> int:
    """Return the bytes that a process has resident now, cheaply; 0 for a zombie."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def cpu_seconds(pid: int, *, with_ended_children: bool = False) -> float:
    """Return the CPU time that a process has had so far, in steps of 10 ms.

    Of its children's, only what those had that ended and were waited for can be asked for.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    times = fields[11:15] if with_ended_children else fields[11:13]
    return sum(map(int, times)) / _TICKS


def restart_peak(pid: int) -> None:
    """Forget the peak so far."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss(pid: int) -> int:
    """Return the most bytes that a process had in memory since `restart_peak`."""
    return _kilobytes(Path(f"/proc/{pid}/status").read_text(), "VmHWM")


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found, f"the kernel tells no {name}"
    return int(found[1]) * 1024
