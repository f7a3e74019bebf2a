"""Moves complete and verified files from the staging folder to the destination."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import DownloaderError, ErrorCode
from ...core.records import Download, FileRecord, State
from ...system.directories import (
    make_directories,
    make_private,
    shared_parents,
    sync,
    sync_above,
    sync_tree,
)
from ...system.status import status_of
from ..planning import path_safety
from . import exchange, replace

__all__ = [
    "discard",
    "not_staged",
    "prepare",
    "publish_directory",
    "publish_files",
    "remove_staged",
    "staged",
    "sync_published",
]

log = logging.getLogger(__name__)


def staged(download: Download, path: str) -> Path:
    """Return the path at which the engine stages the finished file `path`."""
    return Path(download.staging, "files", path)


def not_staged(download: Download, files: Iterable[FileRecord]) -> list[FileRecord]:
    """Return the files that are not in the staging folder with the size of their object."""
    return [file for file in files if not _is_staged(download, file)]


def _is_staged(download: Download, file: FileRecord) -> bool:
    status = status_of(staged(download, file.path))
    return status is not None and status.st_size == file.size


def publish_directory(download: Download) -> bool:
    """Publish all files in one step if the destination does not exist: rename their directory.

    Returns False if the destination exists. Then nothing is published. Raises UNSAFE_KEY if the
    destination is reached through a symlink, and OSError.
    """
    source, destination = staged(download, ""), Path(download.destination)
    if destination.exists():
        return False
    path_safety.target(destination.parent, destination.name)
    sync_tree(source)
    make_directories(destination.parent)
    try:
        source.rename(destination)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False  # another download has just created it
    sync_above(destination)
    return True


def publish_files(
    download: Download, files: Iterable[FileRecord]
) -> tuple[set[Path], list[FileRecord]]:
    """Move staged files to their targets, one by one.

    Returns the directories that must be synced afterwards, and the files that are not staged: these
    were moved before an interruption, or are lost. Raises UNSAFE_KEY, DESTINATION_NOT_WRITABLE and
    OSError.
    """
    destination = Path(download.destination)
    targets = [(file, path_safety.target(destination, file.path)) for file in files]
    absent = [file for file, target in targets if not _publish_file(download, target, file)]
    return {target.parent for _, target in targets}, absent


def sync_published(destination: Path, touched: Iterable[Path]) -> None:
    """Sync the `touched` directories, and all directories above them."""
    folders = {folder for below in touched for folder in (below, *below.parents)}
    for folder in sorted(folders - set(destination.parents)):
        sync(folder)
    sync_above(destination)


def _publish_file(download: Download, target: Path, file: FileRecord) -> bool:
    """Move a staged file to `target`. Return False if there is no staged file."""
    make_directories(target.parent)
    source = staged(download, file.path)
    try:
        source.rename(target)
        source.unlink(missing_ok=True)  # rename(2) keeps it if both are links to the same inode
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{target} is a directory where a file belongs; remove it, then resume",
        ) from None
    return True


def remove_staged(download: Download, paths: Iterable[str]) -> None:
    """Remove staged files that no longer belong to the download, and folders that are then empty.

    The name of such a folder may be needed for a file.
    """
    top = staged(download, "")
    for path in paths:
        file = staged(download, path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            file.unlink()
        folder = file.parent
        with contextlib.suppress(OSError):  # the first folder that is not empty ends the loop
            while folder != top:
                with contextlib.suppress(FileNotFoundError):
                    folder.rmdir()
                folder = folder.parent


def prepare(download: Download) -> None:
    """Create the staging folder if it does not exist. Prepare it for a `publish: replace`.

    Raises DESTINATION_NOT_WRITABLE if a folder of the downloader belongs to another user, or if the
    file system cannot exchange names. Raises OSError.
    """
    with shared_parents:
        path_safety.check_own(Path(download.staging).parent)
        make_private(Path(download.staging).parent)
        make_directories(Path(download.staging))
    if download.replaces:
        exchange.check_supported(Path(download.staging))
        replace.restore_staged(download)


def discard(download: Download) -> None:
    """Remove the staging folder, and its parent folder if no other download uses it.

    If a `publish: replace` failed or was cancelled, its exchange is undone first.
    """
    if download.state in (State.CANCELLED, State.FAILED):
        try:
            replace.undo(download)
        except OSError as error:
            log.error("%s: its target cannot be restored: %s", download.download_id, error)
    staging = Path(download.staging)
    shutil.rmtree(staging, ignore_errors=True)
    with shared_parents, contextlib.suppress(OSError):
        staging.parent.rmdir()
