"""A disk that loses random pages that were not synced, when the power is lost."""

from __future__ import annotations

import errno
import os
import random
from threading import Lock

from s3downloader.engines.disk import Disk

__all__ = ["LosingDisk"]

_PAGE = 4_096


class _File:
    """A file's size at its last sync, and the old content of the pages written since."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)  # whatever its name
        self.size = os.fstat(descriptor).st_size
        self.pages: dict[int, bytes] = {}

    def touch(self, start: int, end: int) -> None:
        for page in range(start // _PAGE, -(-end // _PAGE)):
            if page not in self.pages:
                self.pages[page] = os.pread(self.descriptor, _PAGE, page * _PAGE)

    def settle(self) -> None:
        self.size = os.fstat(self.descriptor).st_size
        self.pages = {}

    def lose(self, share: float, rng: random.Random) -> int:
        """Restore the old content of a random share of the pages; return the bytes lost."""
        lost = 0
        for page, content in self.pages.items():
            if rng.random() < share:
                os.pwrite(self.descriptor, content.ljust(_PAGE, b"\0"), page * _PAGE)
                lost += _PAGE
        os.ftruncate(self.descriptor, self.size)
        return lost

    def drop(self) -> None:
        """Overwrite all unsynced pages with zeros, and count them as synced. The size stays."""
        size = os.fstat(self.descriptor).st_size
        for page in self.pages:
            os.pwrite(self.descriptor, bytes(_PAGE), page * _PAGE)
        os.ftruncate(self.descriptor, size)
        self.settle()


class LosingDisk(Disk):
    """Simulates a loss of power:

    keeps the old content of all pages that are not synced.

    The names of files are not lost, because a journaling file system keeps those of synced files.
    """

    def __init__(self, boot: int = 0) -> None:
        self._boot = boot
        self.lost = 0
        self._files: dict[int, _File] = {}
        self._lock = Lock()
        self._has_power = True

    @property
    def boot_id(self) -> str:
        return f"00000000-0000-4000-8000-{self._boot:012}"[::-1]

    @property
    def unsynced(self) -> int:
        """The bytes of all pages that are not synced."""
        with self._lock:
            return _PAGE * sum(len(file.pages) for file in self._files.values())

    def allocate(self, descriptor: int, size: int) -> None:
        with self._lock:
            self._file(descriptor)
            os.ftruncate(descriptor, size)

    def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        with self._lock:
            self._file(descriptor).touch(offset, offset + len(data))
            super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        with self._lock:
            self._file(descriptor).settle()

    def sync_all(self, descriptor: int) -> None:
        with self._lock:
            self._check_power()
            for file in self._files.values():
                file.settle()

    def drop(self, descriptor: int) -> None:
        """Lose the unsynced pages of one file, without a loss of power."""
        with self._lock:
            self._file(descriptor).drop()

    def lose_power(self, share: float = 1.0, seed: int = 0) -> LosingDisk:
        """Lose a share of the unsynced pages; return the disk after the next boot.

        Calls to this disk then raise OSError.
        """
        with self._lock:
            self._has_power = False
            rng = random.Random(seed)
            self.lost = sum(file.lose(share, rng) for file in self._files.values())
            for file in self._files.values():
                os.close(file.descriptor)
        return LosingDisk(self._boot + 1)

    def _file(self, descriptor: int) -> _File:
        self._check_power()
        inode = os.fstat(descriptor).st_ino
        if inode not in self._files:
            self._files[inode] = _File(descriptor)
        return self._files[inode]

    def _check_power(self) -> None:
        if not self._has_power:
            raise OSError(errno.EIO, "the power is lost")
