"""Directories whose names survive a loss of power."""

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
"""Held while a folder that several downloads share comes or goes."""


def make_directories(directory: Path) -> None:
    """Make a directory and those above it, each synced into its parent."""
    if not directory.is_dir():
        make_directories(directory.parent)
        directory.mkdir(exist_ok=True)
        sync(directory.parent)


def make_private(directory: Path) -> None:
    """Make a directory that its owner alone can enter, whatever the umask; close one that is open.

    Those above it go by the umask. A file system that keeps no modes is left as it is.
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
    """Make the names in a directory survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_above(path: Path) -> None:
    """Make the name of `path` survive, and those of the directories above it.

    An end of the process may have come between the making of one and its sync. What lies on
    another file system, or where this user may not write, the downloader has not made.
    """
    device = path.parent.stat().st_dev
    for folder in path.parents:
        if folder.stat().st_dev != device or not os.access(folder, os.R_OK | os.W_OK):
            return
        sync(folder)


def sync_tree(directory: Path) -> None:
    """The same for a directory and all below it."""
    for below, _, _ in os.walk(directory):
        sync(Path(below))
