"""Stages files that are published already, as links to them, so that they are not fetched again.

After that, a published file may share its inode with staged files and with a retained version. So
neither staged nor published files are ever written in place: a new file takes their name.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ...core import validators
from ...core.aio import batches
from ...core.checksums import md5_etag
from ...core.errors import DownloaderError, ErrorCode, from_os_error
from ...core.records import Download, FileRecord
from ...sources.base import Source
from ...store import Published, Store
from ...system.directories import sync
from ...system.status import status_of
from ..publishing.publish import staged

__all__ = [
    "delete_missing",
    "not_published",
    "published_name",
    "record_published",
    "record_staged",
    "stage_unchanged",
]

_NOT_AS_LISTED = {ErrorCode.SOURCE_CHANGED, ErrorCode.OBJECT_NOT_FOUND}
_FICLONE = 0x40049409  # linux/fs.h
_NOT_POSSIBLE = {
    errno.EINVAL,
    errno.EMLINK,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EXDEV,
}


async def stage_unchanged(
    download: Download, store: Store, source: Source
) -> AsyncIterator[list[FileRecord]]:
    """Stage missing files that exist at the download's target, or in a retained version of it.

    Yields the files that are now complete in the staging folder, with their checksums. If an object
    has the same size but another validator, or a validator that is not a digest, it may have been
    uploaded again with the same content. Then its checksum is requested and compared. Raises the
    errors of the source, and OSError.
    """
    versions = [v.path for v in await store.versions() if v.target == download.target]
    targets = [download.target, *reversed(versions)]
    cloner = _Cloner()
    async for batch in batches(store.files(download.download_id, done=False)):
        wanted = {_path(target, download, file): file for file in batch for target in targets}
        known = await store.published(wanted)
        pairs = [(k, wanted[k.file]) for k in known]
        matching = [(k, f) for k, f in pairs if await _is_same(k, f, source)]
        if taken := await asyncio.to_thread(_stage, download, matching, cloner):
            yield taken


async def record_published(download: Download, files: Iterable[FileRecord], store: Store) -> None:
    """Record the published `files`, so that a later download can reuse them."""
    target, name = download.target, published_name(download)
    paths = [(f, _path(target, download, f), _path(name, download, f)) for f in files]
    await store.record_published(await asyncio.to_thread(_stat_files, download, paths))


async def record_staged(download: Download, files: Iterable[FileRecord], store: Store) -> None:
    """Record the staged `files`, so that `not_published` recognizes them after they were moved.

    This must be on disk before the first file is moved. The records have the paths in the staging
    folder: the target paths may have records of another download's files until then.
    """
    paths = [(file, name := str(staged(download, file.path)), name) for file in files]
    await store.record_published(await asyncio.to_thread(_stat_files, download, paths))


async def not_published(
    download: Download, files: Sequence[FileRecord], store: Store
) -> Sequence[FileRecord]:
    """Return the `files` that are not published: their targets do not have the staged files."""
    if not files or download.replaces or not download.publish_began:
        return files
    known = {each.file: each for each in await store.published(_staged_names(download, files))}
    return await asyncio.to_thread(_not_moved, download, files, known)


async def delete_missing(store: Store, excluded: tuple[str, ...]) -> None:
    """Delete the records of published files that no longer exist.

    Records of paths that start with one of `excluded` are kept.
    """
    async for files in store.published_files():
        if gone := await asyncio.to_thread(_missing_files, files, excluded):
            await store.delete_published(gone)


def published_name(download: Download) -> str:
    """Return the path under which `record_published` records the target of a download.

    With `publish: replace` this is not the target itself, until the download is completed.
    """
    return f"{download.exchange.version_dir}/new" if download.exchange else download.target


def _path(target: str, download: Download, file: FileRecord) -> str:
    return f"{target}/{file.path}" if download.is_tree else target


def _stat_files(
    download: Download, files: Iterable[tuple[FileRecord, str, str]]
) -> list[Published]:
    """Return the records of those files that exist.

    Each file comes with its path, and with the path for its record.
    """
    found = []
    for file, path, name in files:
        if status := status_of(path):
            found.append(
                Published(
                    file=name,
                    size=file.size,
                    validator=file.validator,
                    sha256=file.sha256,
                    checksum=file.checksum,
                    inode=status.st_ino,
                    mtime_ns=status.st_mtime_ns,
                    download_id=download.download_id,
                )
            )
    return found


def _staged_names(download: Download, files: Iterable[FileRecord]) -> list[str]:
    return [str(staged(download, file.path)) for file in files]


def _not_moved(
    download: Download, files: Sequence[FileRecord], known: Mapping[str, Published]
) -> list[FileRecord]:
    names = zip(files, _staged_names(download, files), strict=True)
    return [file for file, name in names if not _was_moved(download, file, known.get(name))]


def _was_moved(download: Download, file: FileRecord, known: Published | None) -> bool:
    """Tell whether the staged file is now at the target: a rename keeps inode and mtime."""
    status = status_of(_path(download.target, download, file))
    if not status or not known or not _is_unchanged(known, file):
        return False
    seen = (status.st_size, status.st_ino, status.st_mtime_ns)
    return seen == (file.size, known.inode, known.mtime_ns)


def _is_unchanged(known: Published, file: FileRecord) -> bool:
    return known.validator == file.validator or validators.same(known.validator, file.validator)


def _missing_files(files: Iterable[str], excluded: tuple[str, ...]) -> list[str]:
    return [f for f in files if not os.path.lexists(f) and not f.startswith(excluded)]


async def _is_same(known: Published, file: FileRecord, source: Source) -> bool:
    """Tell whether a published file has the content of the planned object.

    It may have been published from another object, or from another source.
    """
    if known.size != file.size:
        return False
    if file.sha256:
        return known.sha256 == file.sha256
    if validators.is_digest(file.validator) and validators.same(known.validator, file.validator):
        return True
    if not known.checksum or (md5_etag(known.validator) and md5_etag(file.validator)):
        return False
    try:
        checksum = await source.checksum(file.object)
    except DownloaderError as error:
        if error.code not in _NOT_AS_LISTED:
            raise
        return False  # the fetch then detects the change
    return checksum is not None and checksum.label == known.checksum


def _stage(
    download: Download, matching: Iterable[tuple[Published, FileRecord]], cloner: _Cloner
) -> list[FileRecord]:
    """Stage and sync the files that have not changed since they were published. Return them."""
    taken: dict[int, FileRecord] = {}
    for known, file in matching:
        target = staged(download, file.path)
        if file.number not in taken and _clone(known, target, cloner):
            taken[file.number] = msgspec.structs.replace(file, checksum=known.checksum)
    folders = {folder for f in taken.values() for folder in staged(download, f.path).parents}
    for folder in folders - set(Path(download.staging).parents):
        sync(folder)
    return list(taken.values())


def _clone(known: Published, target: Path, cloner: _Cloner) -> bool:
    try:
        source = os.open(known.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if from_os_error(error).code is ErrorCode.RESOURCES_EXHAUSTED:
            raise
        return False  # missing, or not readable for this user: it is fetched
    try:
        status = os.fstat(source)
        seen = (status.st_size, status.st_ino, status.st_mtime_ns)
        if not stat.S_ISREG(status.st_mode) or seen != (known.size, known.inode, known.mtime_ns):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        return cloner(source, known.file, target)
    finally:
        os.close(source)


class _Cloner:
    """Creates a second file with the same content: by reflink, by hard link, or by a copy.

    The first of these that the file system supports is used.
    """

    def __init__(self) -> None:
        self._reflinks = True

    def __call__(self, source: int, path: str, target: Path) -> bool:
        """Create `target` from the file at `path`, open as `source`. Return whether that worked."""
        if self._reflinks:
            self._reflinks = _is_possible(lambda: _create_by(target, _reflink, source))
            if self._reflinks:
                return True
        if _is_possible(lambda: os.link(path, target, follow_symlinks=False)):
            if target.lstat().st_ino == os.fstat(source).st_ino:
                return True
            target.unlink()
        return _is_possible(lambda: _create_by(target, _copy, source))


def _is_possible(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError as error:
        if error.errno not in _NOT_POSSIBLE:
            raise
        return False
    return True


def _create_by(target: Path, fill: Callable[[int, int], None], source: int) -> None:
    """Create `target`, fill it with `fill(source, target)`, and sync it. Remove it on an error."""
    made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fill(source, made)
        os.fsync(made)
    except BaseException:
        target.unlink()
        raise
    finally:
        os.close(made)


def _reflink(source: int, target: int) -> None:
    fcntl.ioctl(target, _FICLONE, source)


def _copy(source: int, target: int) -> None:
    left = os.fstat(source).st_size
    while left:
        copied = os.copy_file_range(source, target, left)
        if not copied:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        left -= copied
