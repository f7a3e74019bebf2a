"""`publish: replace`: what is new is exchanged with the target in one step.

The new file or directory first moves to a version directory, `.s3downloader/versions/TOKEN` beside
the target, and is exchanged from there, so that what it replaces is retained from that moment on.
Which of the two a name leads to is told by the inode that was recorded before the first step: each
step may be interrupted, by a loss of power too, and all of it begun again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import DownloaderError, ErrorCode, Vanished
from ...core.records import Download, Exchange
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
from .exchange import exchange, rename_new

__all__ = [
    "begin",
    "check_replaceable",
    "check_whole",
    "exchange_retained",
    "exchange_target",
    "inode",
    "is_exchanged",
    "is_staged",
    "remove_retained",
    "restore_staged",
    "retained_path",
    "undo",
]

_VERSIONS = "versions"


def check_replaceable(target: Path, own: Iterable[Path]) -> None:
    """Raise DESTINATION_NOT_ALLOWED where `target` is, or holds, one of `own` or a mount point.

    `own` are the directories that must stay where they are, whatever is published.
    """
    for directory in map(Path, map(os.path.realpath, own)):
        if directory.is_relative_to(target):
            raise DownloaderError(
                ErrorCode.DESTINATION_NOT_ALLOWED,
                f'"publish":"replace" would exchange {target} as a whole, and with it {directory},'
                " which the configuration names; choose a directory of the model's own as"
                ' destination, such as one below it, or "publish":"merge"',
            )
    check_whole(target)


def check_whole(target: Path) -> None:
    """Raise DESTINATION_NOT_ALLOWED where something is mounted at or below `target`."""
    if mounts := path_safety.mounts_below(target):
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_ALLOWED,
            f"{target} cannot be exchanged as a whole, because something is mounted at"
            f" {mounts[0]}; choose a directory that holds no mount point as destination, such as"
            ' one below it, or "publish":"merge"',
        )


def begin(download: Download) -> Exchange | None:
    """Make the staged files ready to be exchanged; return how that is to be done.

    To be recorded before `exchange_target`. None for a download that does not replace.
    """
    if not download.replaces:
        return None
    target, new = Path(download.target), _staged(download)
    _check_kind(download)
    if download.is_tree:
        _copy_access(target, new)
        _remove_empty_folders(new)
        sync_tree(new)
    version_dir = target.parent / path_safety.STAGING / _VERSIONS / secrets.token_hex(8)
    return Exchange(new.lstat().st_ino, str(version_dir))


def retained_path(download: Download) -> Path:
    """Return where that which the download replaces is retained."""
    assert download.exchange
    return Path(download.exchange.version_dir, Path(download.target).name)


def is_exchanged(download: Download) -> bool:
    """Tell whether the exchange of the download has taken place."""
    if download.exchange is None:
        return False
    arrived = inode(Path(download.target)) == download.exchange.inode
    return arrived and not os.path.lexists(_staged(download))


def is_staged(download: Download) -> bool:
    """Tell whether the new is still where it was fetched to: no step has been taken yet."""
    assert download.exchange
    return inode(_staged(download)) == download.exchange.inode


def exchange_target(download: Download) -> None:
    """Exchange the new with what stands at its target, or give it its name where nothing does.

    May be called again after an interruption. Raises DESTINATION_NOT_WRITABLE,
    DESTINATION_NOT_ALLOWED, UNSAFE_KEY and OSError; nothing is lost then.
    """
    assert download.exchange
    target, retained = Path(download.target), retained_path(download)
    if not is_exchanged(download):
        _check_kind(download)
        make_directories(target.parent)
        _exchange_new(download, _staged(download), target, retained)
    _sync_exchange(target, retained)
    if not os.path.lexists(retained):
        _remove_empty(retained)


def _exchange_new(download: Download, new: Path, target: Path, retained: Path) -> None:
    assert download.exchange
    number = download.exchange.inode
    if inode(new) == number and os.path.lexists(target):
        _move_to_version_dir(new, retained)
    if inode(target) != number:
        source = retained if inode(retained) == number else new
        if inode(source) != number:
            raise Vanished(
                f"what was to be published at {target} disappeared meanwhile;"
                " resume to fetch what is missing"
            )
        _exchange_or_rename(source, target)


def exchange_retained(target: Path, retained: Path, number: int) -> None:
    """Let what has the inode `number` stand at `target`, and what stood there at `retained`.

    One of them has that inode; may be called again. Raises like `exchange_target`.
    """
    path_safety.target(target.parent, target.name)
    check_whole(target)
    if inode(target) != number:
        _exchange_or_rename(retained, target)
    _sync_exchange(target, retained)


def restore_staged(download: Download) -> None:
    """Bring back into the staging folder what has left it and did not reach its target."""
    if download.exchange is None:
        return
    new, retained = _staged(download), retained_path(download)
    if inode(retained) == download.exchange.inode and not os.path.lexists(new):
        new.parent.mkdir(parents=True, exist_ok=True)
        retained.rename(new)
        sync(new.parent)
    _remove_empty(retained)


def undo(download: Download) -> None:
    """Let what stood at the target before stand there again, after a publishing that failed."""
    if download.exchange is None:
        return
    target, retained = Path(download.target), retained_path(download)
    if inode(target) == download.exchange.inode and os.path.lexists(retained):
        exchange(retained, target)
        _sync_exchange(target, retained)
    restore_staged(download)


def remove_retained(retained: Path) -> None:
    """Remove a retained file or directory, its version directory, and folders left empty above.

    Raises OSError where some of it is left.
    """
    if mounts := path_safety.mounts_below(retained):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(mounts[0]))
    if retained.is_dir() and not retained.is_symlink():
        shutil.rmtree(retained)
    else:
        retained.unlink(missing_ok=True)
    _remove_empty(retained)


def inode(path: Path) -> int | None:
    """Return the inode that `path` itself names, None for none."""
    status = status_of(path)
    return status.st_ino if status else None


def _staged(download: Download) -> Path:
    """Return where the file, or the directory with all files, is ready."""
    files = Path(download.staging, "files")
    return files if download.is_tree else files / Path(download.target).name


def _check_kind(download: Download) -> None:
    """Raise where a symlink leads elsewhere, or what stands at the target cannot be exchanged."""
    target = Path(download.target)
    path_safety.target(target.parent, target.name)
    check_whole(target)
    is_directory = target.is_dir() and not target.is_symlink()
    if os.path.lexists(target) and is_directory is not download.is_tree:
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{target} is {'no' if download.is_tree else 'a'} directory, and what is published"
            f" there is {'one' if download.is_tree else 'a file'}; remove it, then resume",
        )


def _move_to_version_dir(new: Path, retained: Path) -> None:
    path_safety.check_own(retained.parents[2])
    with shared_parents:
        make_private(retained.parents[2])
        make_directories(retained.parent)
        new.rename(retained)
    sync(retained.parent)
    sync(new.parent)


def _remove_empty(retained: Path) -> None:
    """Remove the version directory of `retained`, and the folders above it that hold no other."""
    with shared_parents:
        for folder in retained.parents[:3]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _exchange_or_rename(source: Path, target: Path) -> None:
    """Exchange, or rename where there is nothing to exchange with."""
    try:
        exchange(source, target)
    except FileNotFoundError:
        rename_new(source, target)
        if source.parent.is_dir():
            sync(source.parent)


def _sync_exchange(target: Path, retained: Path) -> None:
    """Sync an exchange; the downloader's own folder stays where it was, for who uses it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, FileExistsError):
        rename_new(retained / path_safety.STAGING, target / path_safety.STAGING)
        sync(target)
    for folder in retained.parents[:3]:  # the version directory, and those above it
        if folder.is_dir():
            sync(folder)
    sync_above(target)


def _remove_empty_folders(directory: Path) -> None:
    """Remove the directories whose files have left the source while they were fetched."""
    for below, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(below).rmdir()


def _copy_access(target: Path, new: Path) -> None:
    """Give a directory the mode and, where that is allowed, the owner of the one it replaces."""
    with contextlib.suppress(FileNotFoundError):
        before = target.lstat()
        new.chmod(stat.S_IMODE(before.st_mode))
        with contextlib.suppress(PermissionError):
            os.chown(new, before.st_uid, before.st_gid)
