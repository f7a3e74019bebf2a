"""Wraps the file system calls, which tests replace to simulate a loss of power."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["Disk"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Disk:
    """Writes and syncs files. What is not synced is lost with the power.

    All methods block and raise OSError. A `descriptor` is that of an open file.
    """

    @property
    def boot_id(self) -> str:
        """The ID of the running kernel's boot. While it is the same, the page cache is intact."""
        return _BOOT_ID.read_text().strip()

    def allocate(self, descriptor: int, size: int) -> None:
        """Give a file a size of `size` bytes, and reserve its blocks if the file system can.

        posix_fallocate is not used: if the file system cannot reserve blocks, it writes them all.
        """
        if _libc.fallocate(descriptor, 0, 0, size) == 0:
            return
        code = ctypes.get_errno()
        if code not in _UNSUPPORTED:
            raise OSError(code, os.strerror(code))
        os.ftruncate(descriptor, size)

    def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            offset += written
            view = view[written:]

    def sync(self, descriptor: int) -> None:
        """Write the file's data to the disk, so that it survives a loss of power."""
        os.fdatasync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """Write everything on the file system of `descriptor` to the disk."""
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def write_back(self, descriptor: int) -> None:
        """Make the kernel start writing the file to the disk, so that a later sync is short."""
        _libc.sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
