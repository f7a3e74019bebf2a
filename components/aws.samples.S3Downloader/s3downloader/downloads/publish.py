"""From the hidden staging folder into place: only whole, verified files ever appear."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from ..errors import DownloaderError, ErrorCode
from ..records import Download, FileRecord
from . import limits

__all__ = [
    "discard",
    "prepare",
    "publish_files",
    "publish_whole",
    "remove_staged",
    "staged",
    "sync_directories",
    "verify_sizes",
]


_shared_parents = Lock()
"""Held while the folder that holds several downloads' staging folders comes or goes."""


def staged(download: Download, path: str) -> Path:
    """Return where the engine puts the finished file `path`."""
    return Path(download.staging, "files", path)


def verify_sizes(download: Download, files: Iterable[FileRecord]) -> list[FileRecord]:
    """Return the files that are not there with the size of their object.

    Once publishing has begun, a file may stand in its final place already.
    """
    return [file for file in files if not _is_whole(download, file)]


def _is_whole(download: Download, file: FileRecord) -> bool:
    if _size(staged(download, file.path)) == file.size:
        return True
    return download.publish_began and _size(Path(download.destination, file.path)) == file.size


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def publish_whole(download: Download) -> bool:
    """Give a directory that does not exist yet its name in one step; tell whether that was so."""
    source, destination = staged(download, ""), Path(download.destination)
    if destination.exists():
        return False
    limits.target(destination.parent, destination.name)
    for directory, _, _ in os.walk(source):
        _sync(Path(directory))
    _make_directories(destination.parent)
    try:
        source.rename(destination)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False  # another download has just made it
    _sync(destination.parent)
    return True


def publish_files(download: Download, files: Iterable[FileRecord]) -> set[Path]:
    """Move staged files into place; return the directories that are to be synced then.

    May be called again after an interruption: a file that has been moved is left where it is.
    """
    destination = Path(download.destination)
    return {_publish_file(download, limits.target(destination, file.path), file) for file in files}


def sync_directories(directories: Iterable[Path]) -> None:
    """Make the names in `directories` survive a loss of power."""
    for directory in sorted(directories):
        _sync(directory)


def _publish_file(download: Download, place: Path, file: FileRecord) -> Path:
    _make_directories(place.parent)
    try:
        staged(download, file.path).rename(place)
    except FileNotFoundError:
        if _size(place) != file.size:
            raise DownloaderError(
                ErrorCode.SIZE_MISMATCH,
                f"{place} disappeared while it was published; resume to fetch it again",
            ) from None
    except IsADirectoryError:
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{place} is a directory where a file belongs; remove it, then resume",
        ) from None
    return place.parent


def _make_directories(directory: Path) -> None:
    """Make a directory and those above it, each synced into its parent."""
    if not directory.is_dir():
        _make_directories(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync(directory.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_staged(download: Download, paths: Iterable[str]) -> None:
    """Remove files that do not belong to the download any more."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            staged(download, path).unlink()


def prepare(download: Download) -> None:
    """Make the staging folder."""
    with _shared_parents:
        Path(download.staging).mkdir(parents=True, exist_ok=True)


def discard(download: Download) -> None:
    """Remove the staging folder, and its parent when no other download uses it."""
    staging = Path(download.staging)
    shutil.rmtree(staging, ignore_errors=True)
    with _shared_parents, contextlib.suppress(OSError):
        staging.parent.rmdir()
