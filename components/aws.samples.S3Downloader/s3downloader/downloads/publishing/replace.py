"""Publishes with `publish: replace`: exchanges the new file or directory with the target.

The new one is first moved to a version directory, `.s3downloader/versions/TOKEN` beside the target.
Then it exchanges its name with the target, in one step. So the replaced one is retained in the
version directory from that moment on. The inode of the new one was recorded before the first step.
It shows which steps are done, so each step may be interrupted, also by a loss of power, and
repeated.
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
    "check_no_mounts",
    "check_replaceable",
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
    """Raise DESTINATION_NOT_ALLOWED if `target` is, or contains, one of `own` or a mount point.

    `own` are directories that must never be moved, such as StateDir.
    """
    for directory in map(Path, map(os.path.realpath, own)):
        if directory.is_relative_to(target):
            raise DownloaderError(
                ErrorCode.DESTINATION_NOT_ALLOWED,
                f'"publish":"replace" would exchange {target}, and with it {directory}, which the'
                " configuration names; choose a destination that only this model uses, such as a"
                ' directory below it, or "publish":"merge"',
            )
    check_no_mounts(target)


def check_no_mounts(target: Path) -> None:
    """Raise DESTINATION_NOT_ALLOWED if something is mounted at or below `target`."""
    if mounts := path_safety.mounts_below(target):
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_ALLOWED,
            f"{target} cannot be exchanged, because something is mounted at {mounts[0]}; choose a"
            " destination without a mount point, such as a directory below it, or"
            ' "publish":"merge"',
        )


def begin(download: Download) -> Exchange | None:
    """Prepare the staged files for the exchange. Return the Exchange, None for `publish: merge`.

    Record it before you call `exchange_target`. Raises UNSAFE_KEY, DESTINATION_NOT_ALLOWED,
    DESTINATION_NOT_WRITABLE and OSError.
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
    """Return the path at which the file or directory that the download replaces is retained."""
    assert download.exchange
    return Path(download.exchange.version_dir, Path(download.target).name)


def is_exchanged(download: Download) -> bool:
    """Tell whether the exchange of the download has taken place."""
    if download.exchange is None:
        return False
    arrived = inode(Path(download.target)) == download.exchange.inode
    return arrived and not os.path.lexists(_staged(download))


def is_staged(download: Download) -> bool:
    """Tell whether the new file or directory is still in the staging folder: no step was done."""
    assert download.exchange
    return inode(_staged(download)) == download.exchange.inode


def exchange_target(download: Download) -> None:
    """Exchange the new file or directory with the target. If the target does not exist, rename it.

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
                f"the new files for {target} disappeared before they were published;"
                " resume to fetch what is missing"
            )
        _exchange_or_rename(source, target)


def exchange_retained(target: Path, retained: Path, number: int) -> None:
    """Exchange `target` and `retained`, unless `target` has the inode `number` already.

    One of them must have that inode. May be called again. Raises what `exchange_target` raises.
    """
    path_safety.target(target.parent, target.name)
    check_no_mounts(target)
    if inode(target) != number:
        _exchange_or_rename(retained, target)
    _sync_exchange(target, retained)


def restore_staged(download: Download) -> None:
    """Move the new file or directory back to the staging folder if it was not exchanged."""
    if download.exchange is None:
        return
    new, retained = _staged(download), retained_path(download)
    if inode(retained) == download.exchange.inode and not os.path.lexists(new):
        new.parent.mkdir(parents=True, exist_ok=True)
        retained.rename(new)
        sync(new.parent)
    _remove_empty(retained)


def undo(download: Download) -> None:
    """Undo the exchange of a failed or cancelled download: restore the earlier target."""
    if download.exchange is None:
        return
    target, retained = Path(download.target), retained_path(download)
    if inode(target) == download.exchange.inode and os.path.lexists(retained):
        exchange(retained, target)
        _sync_exchange(target, retained)
    restore_staged(download)


def remove_retained(retained: Path) -> None:
    """Remove a retained file or directory, its version directory, and the folders then empty.

    Raises OSError if a part of it cannot be removed.
    """
    if mounts := path_safety.mounts_below(retained):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(mounts[0]))
    if retained.is_dir() and not retained.is_symlink():
        shutil.rmtree(retained)
    else:
        retained.unlink(missing_ok=True)
    _remove_empty(retained)


def inode(path: Path) -> int | None:
    """Return the inode of `path` itself. None if it does not exist."""
    status = status_of(path)
    return status.st_ino if status else None


def _staged(download: Download) -> Path:
    """Return the path of the staged file, or of the directory with all staged files."""
    files = Path(download.staging, "files")
    return files if download.is_tree else files / Path(download.target).name


def _check_kind(download: Download) -> None:
    """Check that the new file or directory can be exchanged with the target.

    Raises UNSAFE_KEY if the target is reached through a symlink, DESTINATION_NOT_ALLOWED if
    something is mounted there, DESTINATION_NOT_WRITABLE if only one of the two is a directory.
    """
    target = Path(download.target)
    path_safety.target(target.parent, target.name)
    check_no_mounts(target)
    is_directory = target.is_dir() and not target.is_symlink()
    if os.path.lexists(target) and is_directory is not download.is_tree:
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{target} is {'not ' if download.is_tree else ''}a directory, but a"
            f" {'directory' if download.is_tree else 'file'} is published there; remove it, then"
            " resume",
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
    """Remove the version directory of `retained`, and the two folders above it, if empty."""
    with shared_parents:
        for folder in retained.parents[:3]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _exchange_or_rename(source: Path, target: Path) -> None:
    """Exchange two names. If `target` does not exist, rename `source` to it."""
    try:
        exchange(source, target)
    except FileNotFoundError:
        rename_new(source, target)
        if source.parent.is_dir():
            sync(source.parent)


def _sync_exchange(target: Path, retained: Path) -> None:
    """Sync an exchange. Move the downloader's folder back to the target, if it was exchanged too.

    Downloads into the target may use that folder.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, FileExistsError):
        rename_new(retained / path_safety.STAGING, target / path_safety.STAGING)
        sync(target)
    for folder in retained.parents[:3]:  # the version directory, and those above it
        if folder.is_dir():
            sync(folder)
    sync_above(target)


def _remove_empty_folders(directory: Path) -> None:
    """Remove empty directories below `directory`: their files are no longer in the source."""
    for below, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(below).rmdir()


def _copy_access(target: Path, new: Path) -> None:
    """Copy the mode and, if allowed, the owner of the replaced directory to the new one."""
    with contextlib.suppress(FileNotFoundError):
        before = target.lstat()
        new.chmod(stat.S_IMODE(before.st_mode))
        with contextlib.suppress(PermissionError):
            os.chown(new, before.st_uid, before.st_gid)
