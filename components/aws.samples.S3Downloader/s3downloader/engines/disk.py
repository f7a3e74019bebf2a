"""The edge to the file system: what a power loss takes, and tests therefore stand in for."""

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
    """Writes that are lost with the power until their file is synced. All methods raise OSError."""

    @property
    def boot_id(self) -> str:
        """What is the same for as long as the kernel runs, and with it the page cache."""
        return _BOOT_ID.read_text().strip()

    def allocate(self, descriptor: int, size: int) -> None:
        """Make a file `size` bytes long, with its blocks reserved where the file system can.

        (posix_fallocate would write all of them where it cannot.)
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
        """Return once what was written to the file survives a loss of power."""
        os.fdatasync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """The same for everything on the file system that `descriptor` lies on."""
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def write_back(self, descriptor: int) -> None:
        """Let the kernel begin to write the file to the disk, so that its sync is short."""
        _libc.sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
