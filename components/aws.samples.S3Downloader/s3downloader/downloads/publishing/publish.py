"""From the hidden staging folder into place: only whole, verified files ever appear."""

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
    "publish_files",
    "publish_whole",
    "remove_staged",
    "staged",
    "sync_published",
]

log = logging.getLogger(__name__)


def staged(download: Download, path: str) -> Path:
    """Return where the engine puts the finished file `path`."""
    return Path(download.staging, "files", path)


def not_staged(download: Download, files: Iterable[FileRecord]) -> list[FileRecord]:
    """Return the files that are not in the staging folder with the size of their object."""
    return [file for file in files if not _is_staged(download, file)]


def _is_staged(download: Download, file: FileRecord) -> bool:
    status = status_of(staged(download, file.path))
    return status is not None and status.st_size == file.size


def publish_whole(download: Download) -> bool:
    """Give a directory that does not exist yet its name in one step; tell whether that was so."""
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
        return False  # another download has just made it
    sync_above(destination)
    return True


def publish_files(
    download: Download, files: Iterable[FileRecord]
) -> tuple[set[Path], list[FileRecord]]:
    """Move staged files into place; return the directories that are to be synced then.

    With them come the files that are not staged: moved before an interruption, or lost.
    """
    destination = Path(download.destination)
    targets = [(file, path_safety.target(destination, file.path)) for file in files]
    absent = [file for file, target in targets if not _publish_file(download, target, file)]
    return {target.parent for _, target in targets}, absent


def sync_published(destination: Path, touched: Iterable[Path]) -> None:
    """Make the names in the `touched` directories survive a loss of power, and their own names."""
    folders = {folder for below in touched for folder in (below, *below.parents)}
    for folder in sorted(folders - set(destination.parents)):
        sync(folder)
    sync_above(destination)


def _publish_file(download: Download, target: Path, file: FileRecord) -> bool:
    """Tell whether there was a staged file to move."""
    make_directories(target.parent)
    source = staged(download, file.path)
    try:
        source.rename(target)
        source.unlink(missing_ok=True)  # rename(2) leaves it where both are links to one inode
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{target} is a directory where a file belongs; remove it, then resume",
        ) from None
    return True


def remove_staged(download: Download, paths: Iterable[str]) -> None:
    """Remove files that do not belong to the download any more, and folders left empty by that.

    A file of the source may be to stand in the place of such a folder.
    """
    top = staged(download, "")
    for path in paths:
        file = staged(download, path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            file.unlink()
        folder = file.parent
        with contextlib.suppress(OSError):  # the first that is not empty ends it
            while folder != top:
                with contextlib.suppress(FileNotFoundError):
                    folder.rmdir()
                folder = folder.parent


def prepare(download: Download) -> None:
    """Make the staging folder where there is none, or none any more.

    Raises DESTINATION_NOT_WRITABLE where that cannot be, or nothing can be replaced.
    """
    with shared_parents:
        path_safety.check_own(Path(download.staging).parent)
        make_private(Path(download.staging).parent)
        make_directories(Path(download.staging))
    if download.replaces:
        exchange.check_supported(Path(download.staging))
        replace.restore_staged(download)


def discard(download: Download) -> None:
    """Remove the staging folder, and its parent when no other download uses it.

    A publishing that failed is undone where it is a replacement.
    """
    if download.state in (State.CANCELLED, State.FAILED):
        try:
            replace.undo(download)
        except OSError as error:
            log.error("%s: what it replaced stays away: %s", download.download_id, error)
    staging = Path(download.staging)
    shutil.rmtree(staging, ignore_errors=True)
    with shared_parents, contextlib.suppress(OSError):
        staging.parent.rmdir()
