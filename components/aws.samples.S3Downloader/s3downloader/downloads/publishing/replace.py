"""`publish: replace`: what is new and what stood in its place change places in one step.

The new file or directory first moves to a slot, `.s3downloader/versions/TOKEN` beside the place,
and is exchanged from there, so that what it replaces is in safety the moment it leaves its place.
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
    "exchange_kept",
    "inode",
    "is_in_place",
    "is_staged",
    "kept_path",
    "put_in_place",
    "remove_kept",
    "retract",
    "undo",
]

_VERSIONS = "versions"


def check_replaceable(place: Path, own: Iterable[Path]) -> None:
    """Raise DESTINATION_NOT_ALLOWED where `place` is, or holds, one of `own` or a mount point.

    `own` are the directories that must stay where they are, whatever is published.
    """
    for directory in map(Path, map(os.path.realpath, own)):
        if directory.is_relative_to(place):
            raise DownloaderError(
                ErrorCode.DESTINATION_NOT_ALLOWED,
                f'"publish":"replace" would exchange {place} as a whole, and with it {directory},'
                " which the configuration names; choose a directory of the model's own as"
                ' destination, such as one below it, or "publish":"merge"',
            )
    check_whole(place)


def check_whole(place: Path) -> None:
    """Raise DESTINATION_NOT_ALLOWED where something is mounted at or below `place`."""
    if mounts := path_safety.mounts_below(place):
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_ALLOWED,
            f"{place} cannot be exchanged as a whole, because something is mounted at"
            f" {mounts[0]}; choose a directory that holds no mount point as destination, such as"
            ' one below it, or "publish":"merge"',
        )


def begin(download: Download) -> Exchange | None:
    """Make the staged files ready to be exchanged; return how that is to be done.

    To be recorded before `put_in_place`. None for a download that does not replace.
    """
    if not download.replaces:
        return None
    place, new = Path(download.place), _staged(download)
    _check_kind(download)
    if download.is_prefix:
        _take_over_access(place, new)
        _drop_empty(new)
        sync_tree(new)
    slot = place.parent / path_safety.STAGING / _VERSIONS / secrets.token_hex(8)
    return Exchange(new.lstat().st_ino, str(slot))


def kept_path(download: Download) -> Path:
    """Return where that which the download replaces is kept."""
    assert download.exchange
    return Path(download.exchange.slot, Path(download.place).name)


def is_in_place(download: Download) -> bool:
    """Tell whether the exchange of the download has taken place."""
    if download.exchange is None:
        return False
    arrived = inode(Path(download.place)) == download.exchange.inode
    return arrived and not os.path.lexists(_staged(download))


def is_staged(download: Download) -> bool:
    """Tell whether the new is still where it was fetched to: no step has been taken yet."""
    assert download.exchange
    return inode(_staged(download)) == download.exchange.inode


def put_in_place(download: Download) -> None:
    """Exchange the new with what stands in its place, or give it its name where nothing does.

    May be called again after an interruption. Raises DESTINATION_NOT_WRITABLE,
    DESTINATION_NOT_ALLOWED, UNSAFE_KEY and OSError; nothing is lost then.
    """
    assert download.exchange
    place, kept = Path(download.place), kept_path(download)
    if not is_in_place(download):
        _check_kind(download)
        make_directories(place.parent)
        _bring_in(download, _staged(download), place, kept)
    _finish_exchange(place, kept)
    if not os.path.lexists(kept):
        _remove_empty(kept)


def _bring_in(download: Download, new: Path, place: Path, kept: Path) -> None:
    assert download.exchange
    number = download.exchange.inode
    if inode(new) == number and os.path.lexists(place):
        _into_slot(new, kept)
    if inode(place) != number:
        source = kept if inode(kept) == number else new
        if inode(source) != number:
            raise Vanished(
                f"what was to be published at {place} disappeared meanwhile;"
                " resume to fetch what is missing"
            )
        _swap_in(source, place)


def exchange_kept(place: Path, kept: Path, number: int) -> None:
    """Let what has the inode `number` stand at `place`, and what stood there at `kept`.

    One of them has that inode; may be called again. Raises like `put_in_place`.
    """
    path_safety.target(place.parent, place.name)
    check_whole(place)
    if inode(place) != number:
        _swap_in(kept, place)
    _finish_exchange(place, kept)


def retract(download: Download) -> None:
    """Bring back into the staging folder what has left it and did not come into its place."""
    if download.exchange is None:
        return
    new, kept = _staged(download), kept_path(download)
    if inode(kept) == download.exchange.inode and not os.path.lexists(new):
        new.parent.mkdir(parents=True, exist_ok=True)
        kept.rename(new)
        sync(new.parent)
    _remove_empty(kept)


def undo(download: Download) -> None:
    """Let what stood in the place before stand there again, after a publishing that failed."""
    if download.exchange is None:
        return
    place, kept = Path(download.place), kept_path(download)
    if inode(place) == download.exchange.inode and os.path.lexists(kept):
        exchange(kept, place)
        _finish_exchange(place, kept)
    retract(download)


def remove_kept(kept: Path) -> None:
    """Remove a kept file or directory, its slot, and the folders that hold no other.

    Raises OSError where some of it is left.
    """
    if mounts := path_safety.mounts_below(kept):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(mounts[0]))
    if kept.is_dir() and not kept.is_symlink():
        shutil.rmtree(kept)
    else:
        kept.unlink(missing_ok=True)
    _remove_empty(kept)


def inode(path: Path) -> int | None:
    """Return the inode that `path` itself names, None for none."""
    status = status_of(path)
    return status.st_ino if status else None


def _staged(download: Download) -> Path:
    """Return where the file, or the directory with all files, is ready."""
    files = Path(download.staging, "files")
    return files if download.is_prefix else files / Path(download.place).name


def _check_kind(download: Download) -> None:
    """Raise where a symlink leads elsewhere, or what stands in the place cannot be exchanged."""
    place = Path(download.place)
    path_safety.target(place.parent, place.name)
    check_whole(place)
    is_directory = place.is_dir() and not place.is_symlink()
    if os.path.lexists(place) and is_directory is not download.is_prefix:
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{place} is {'no' if download.is_prefix else 'a'} directory, and what is published"
            f" there is {'one' if download.is_prefix else 'a file'}; remove it, then resume",
        )


def _into_slot(new: Path, kept: Path) -> None:
    path_safety.check_own(kept.parents[2])
    with shared_parents:
        make_private(kept.parents[2])
        make_directories(kept.parent)
        new.rename(kept)
    sync(kept.parent)
    sync(new.parent)


def _remove_empty(kept: Path) -> None:
    """Remove the slot of what was kept there, and the folders above it that hold no other."""
    with shared_parents:
        for folder in kept.parents[:3]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _swap_in(source: Path, place: Path) -> None:
    """Exchange, or rename where there is nothing to exchange with."""
    try:
        exchange(source, place)
    except FileNotFoundError:
        rename_new(source, place)
        if source.parent.is_dir():
            sync(source.parent)


def _finish_exchange(place: Path, kept: Path) -> None:
    """Sync an exchange; the downloader's own folder stays where it was, for who uses it."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, FileExistsError):
        rename_new(kept / path_safety.STAGING, place / path_safety.STAGING)
        sync(place)
    for folder in kept.parents[:3]:  # the slot, and the downloader's own folders above it
        if folder.is_dir():
            sync(folder)
    sync_above(place)


def _drop_empty(directory: Path) -> None:
    """Remove the directories whose files have left the source while they were fetched."""
    for below, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            Path(below).rmdir()


def _take_over_access(place: Path, new: Path) -> None:
    """Give a directory the mode and, where that is allowed, the owner of the one it replaces."""
    with contextlib.suppress(FileNotFoundError):
        before = place.lstat()
        new.chmod(stat.S_IMODE(before.st_mode))
        with contextlib.suppress(PermissionError):
            os.chown(new, before.st_uid, before.st_gid)
