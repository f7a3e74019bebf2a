"""What a process uses, as the kernel counts it (proc(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["Memory", "cpu_seconds", "memory", "peak_rss", "restart_peak"]

_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Bytes that are resident: all, and with pages that are shared counted in proportion."""

    rss: int
    pss: int


def memory(pid: int) -> Memory:
    """Return what a process has in memory now."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Memory(rss=_kilobytes(rollup, "Rss"), pss=_kilobytes(rollup, "Pss"))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has had so far, without its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


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
