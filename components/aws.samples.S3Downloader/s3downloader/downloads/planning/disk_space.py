"""Measures the space on a file system, and checks whether a download fits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ...core.errors import DownloaderError, ErrorCode
from .path_safety import nearest_existing

__all__ = ["Space", "allocated", "check_space", "device", "space"]


class Space(NamedTuple):
    """The space of a file system in bytes. `free` is what an unprivileged user may still use."""

    total: int
    used: int
    free: int


def space(path: Path) -> Space:
    """Return the space of the file system that `path` is on, or would be on."""
    stat = os.statvfs(nearest_existing(path))
    return Space(
        total=stat.f_blocks * stat.f_frsize,
        used=(stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        free=stat.f_bavail * stat.f_frsize,
    )


def allocated(staging: Path) -> int:
    """Return the bytes that are allocated to unfinished files in `staging`, written or not."""
    unfinished = staging.glob("*/*.*")
    return sum(_blocks(path) for path in unfinished if path.parent.name != "files")


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512  # stat(2)
    except FileNotFoundError:
        return 0


def device(path: Path) -> int:
    """Return the device number of the file system that `path` is on, or would be on."""
    return nearest_existing(path).stat().st_dev


def check_space(destination: Path, *, needed: int, promised: int, reserve: int) -> None:
    """Raise INSUFFICIENT_SPACE unless `needed` bytes fit in addition to `promised` and `reserve`.

    `promised` are the bytes that other downloads still need, `reserve` those that must stay free.
    """
    free = space(destination).free
    available = max(0, free - promised - reserve)
    if needed > available:
        raise DownloaderError(
            ErrorCode.INSUFFICIENT_SPACE,
            f"{needed} bytes are needed at {destination} and {available} are available"
            f" ({free} free, {reserve} kept free, {promised} promised to other downloads);"
            " free some space, then resume",
            needed=needed,
            available=available,
        )
