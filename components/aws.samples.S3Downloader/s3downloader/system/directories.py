"""Makes and syncs directories, so that their entries survive a loss of power."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from threading import Lock

__all__ = [
    "make_directories",
    "make_private",
    "shared_parents",
    "sync",
    "sync_above",
    "sync_tree",
]

shared_parents = Lock()
"""Held while a directory that several downloads share is made or removed."""


def make_directories(directory: Path) -> None:
    """Make a directory and its missing parents, and sync the parent of each."""
    if not directory.is_dir():
        make_directories(directory.parent)
        directory.mkdir(exist_ok=True)
        sync(directory.parent)


def make_private(directory: Path) -> None:
    """Make a directory with mode 0700, whatever the umask. If it exists, remove the others' access.

    The modes of missing parents follow the umask. If the file system does not support modes, the
    directory is left as it is.
    """
    make_directories(directory.parent)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=stat.S_IRWXU)
        sync(directory.parent)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, stat.S_IRWXU)
    finally:
        os.close(descriptor)


def sync(directory: Path) -> None:
    """Sync a directory: its entries then survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_above(path: Path) -> None:
    """Sync all directories above `path`.

    An earlier process may have ended after it made one of them, and before it synced it. The
    function stops at another file system, and at a directory where this user may not write: the
    downloader has made nothing above those.
    """
    device = path.parent.stat().st_dev
    for folder in path.parents:
        if folder.stat().st_dev != device or not os.access(folder, os.R_OK | os.W_OK):
            return
        sync(folder)


def sync_tree(directory: Path) -> None:
    """Sync a directory and all directories below it."""
    for below, _, _ in os.walk(directory):
        sync(Path(below))
