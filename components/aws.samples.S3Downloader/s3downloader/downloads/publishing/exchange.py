"""Exchanges two names in one step, by renameat2(2), which Python's library does not have."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from ...core.errors import DownloaderError, ErrorCode

__all__ = ["check_supported", "exchange", "rename_new"]

_AT_FDCWD = -100  # fcntl.h
_RENAME_NOREPLACE = 1  # linux/fs.h
_RENAME_EXCHANGE = 2
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}

_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: Path, other: Path) -> None:
    """Exchange two names on one file system atomically: both exist at any time.

    Raises OSError; FileNotFoundError if one of them does not exist.
    """
    _rename(one, other, _RENAME_EXCHANGE)


def rename_new(source: Path, target: Path) -> None:
    """Rename `source` to `target`. Raises OSError; FileExistsError if `target` exists."""
    _rename(source, target, _RENAME_NOREPLACE)


def check_supported(folder: Path) -> None:
    """Try an exchange in `folder`.

    Raises DESTINATION_NOT_WRITABLE if its file system does not support it, and OSError.
    """
    pair = [folder / "exchange-1", folder / "exchange-2"]
    try:
        for path in pair:
            path.touch()
        exchange(*pair)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"the file system of {folder} cannot exchange two names in one step, which"
            ' "publish":"replace" needs; choose a destination on another file system, such as ext4,'
            ' XFS or Btrfs, or "publish":"merge"',
        ) from error
    finally:
        for path in pair:
            path.unlink(missing_ok=True)


def _rename(source: Path, target: Path, flag: int) -> None:
    rename = getattr(_libc, "renameat2", None)
    paths = os.fsencode(source), os.fsencode(target)
    if rename is None:
        code = errno.ENOSYS
    elif rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flag) == 0:
        return
    else:
        code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), str(source), None, str(target))
