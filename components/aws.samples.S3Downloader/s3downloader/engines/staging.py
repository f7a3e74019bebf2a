"""The staging folder of a download: files on their way, whole ones, and what a death leaves."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ..records import FileRecord

__all__ = ["Staging", "number_in"]

_ARRIVED = ".object"
_NUMBER = re.compile(r"(?:^|/)(\d+)\.object\d*$")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FEW = 8  # up to here syncing file by file is as quick as one syncfs, and disturbs nobody else
_WRITEBACK = 8 << 20
_SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class _Journal(msgspec.Struct, frozen=True):
    """Tells which files that outlived the daemon can be kept.

    After another boot none: a loss of power may have taken their bytes. `moved` has the ETags of
    the files moved last, by number: without it, a file in its place may be of an older object.
    """

    boot_id: str
    moved: dict[int, str]


class Staging:
    """A staging folder. Its methods block on the disk and raise OSError.

    - `in-flight/NUMBER.object` is a file that arrived; with digits behind, one on its way
    - `files/PATH` is a file in its place
    - `journal.json` is for `leftovers`
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._in_flight = root / "in-flight"
        self._files = root / "files"
        self._journal = root / "journal.json"
        self._folders: set[Path] = set()
        self._written_back: dict[str, int] = {}

    def make(self) -> None:
        """Make the folder where it is missing."""
        self._in_flight.mkdir(parents=True, exist_ok=True)
        self._files.mkdir(exist_ok=True)
        self._record(())

    def target(self, number: int) -> Path:
        """Return where a file is to arrive."""
        return self._in_flight / f"{number}{_ARRIVED}"

    def measure(self) -> dict[int, int]:
        """Return how many bytes of each file in flight are there, by number.

        Lets the kernel begin to write large ones to disk, so that their sync is short.
        """
        sizes: dict[int, int] = {}
        for entry in os.scandir(self._in_flight):
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                size = min(stat.st_size, stat.st_blocks * 512)  # a file on its way is sparse
                if (number := number_in(entry.name)) is not None:
                    sizes[number] = size
                self._write_back(entry, size)
        return sizes

    def take(self, files: list[FileRecord]) -> list[FileRecord]:
        """Bring files that arrived to their places, synced; return those of the right size."""
        self._record(files)
        whole = [file for file in files if self._settle(file)]
        self._sync([self._files / file.path for file in whole])
        return whole

    def sweep(self) -> None:
        """Remove the files that have not arrived."""
        for entry in os.scandir(self._in_flight):
            if not entry.name.endswith(_ARRIVED):
                Path(entry).unlink()

    def leftovers(self) -> dict[int, str | None]:
        """Return the numbers of files that an earlier fetch left whole; remove those it did not.

        With a number comes the ETag that its file must have, None for any.
        """
        if not self._in_flight.exists():
            return {}
        journal = self._read_journal()
        same_boot = journal.boot_id == _boot_id()
        left: dict[int, str | None] = {**journal.moved} if same_boot else {}
        for entry in os.scandir(self._in_flight):
            number = number_in(entry.name)
            if same_boot and number is not None and entry.name.endswith(_ARRIVED):
                left[number] = None
            else:
                Path(entry).unlink()
        return left

    def _read_journal(self) -> _Journal:
        try:
            return msgspec.json.decode(self._journal.read_bytes(), type=_Journal)
        except (FileNotFoundError, msgspec.DecodeError):
            return _Journal("", {})

    def _record(self, files: Iterable[FileRecord]) -> None:
        """Write the journal in one step; it need not outlive the boot."""
        journal = _Journal(_boot_id(), {file.number: file.etag for file in files})
        draft = self._journal.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(journal))
        draft.replace(self._journal)

    def _settle(self, file: FileRecord) -> bool:
        target, place = self.target(file.number), self._files / file.path
        try:
            size = target.stat().st_size
        except FileNotFoundError:  # moved already, before the daemon died
            return place.is_file() and place.stat().st_size == file.size
        if size != file.size:
            target.unlink()
            return False
        if place.parent not in self._folders:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(place.parent)
        target.rename(place)
        return True

    def _sync(self, places: list[Path]) -> None:
        if len(places) > _FEW:
            _with(self._root, _syncfs)
            return
        for place in places:
            _with(place, os.fdatasync)
        folders = {folder for place in places for folder in place.parents}
        for folder in folders - set(self._root.parents):
            _with(folder, os.fsync)

    def _write_back(self, entry: os.DirEntry[str], size: int) -> None:
        if size - self._written_back.get(entry.name, 0) >= _WRITEBACK:
            self._written_back[entry.name] = size
            _with(entry, _start_writing)


def number_in(path: str) -> int | None:
    """Return the number of the file whose target, or temporary file, `path` ends with."""
    match = _NUMBER.search(path)
    return int(match[1]) if match else None


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _with(path: os.PathLike[str], action: Callable[[int], object]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        action(descriptor)
    finally:
        os.close(descriptor)


def _syncfs(descriptor: int) -> None:
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _start_writing(descriptor: int) -> None:
    _libc.sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
