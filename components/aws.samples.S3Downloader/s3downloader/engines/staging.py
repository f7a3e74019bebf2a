"""The staging folder of a download: files on their way, whole ones, and what a death leaves."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..core import validators
from ..core.decoding import DECODE_ERRORS
from ..core.errors import Vanished
from ..core.records import FileRecord
from .disk import Disk

__all__ = ["Moved", "Staging", "is_left", "mode_by_umask", "number_in", "vanished"]

_ARRIVED = ".object"
_CONTINUED = (".part", ".journal")
_NUMBER = re.compile(r"(?:^|/)(\d+)\.object\d*$")
_FEW = 8  # up to here syncing file by file is as quick as one syncfs, and disturbs nobody else
_WRITEBACK = 8 << 20


class _Journal(msgspec.Struct, frozen=True):
    """Tells which files that outlived the daemon can be kept.

    After another boot none: a loss of power may have taken their bytes. `moved` has the validators
    of the files moved last, by number: without it, a file there may be of an older object.
    """

    boot_id: str
    moved: dict[int, str]


class Moved(NamedTuple):
    """What became of files that had arrived; those of another size than planned are in neither."""

    whole: list[FileRecord]
    gone: list[FileRecord]


class Staging:
    """A staging folder. Its methods block on the disk and raise OSError.

    - `in-flight/NUMBER.object` is a file that arrived; with digits behind, one on its way
    - `in-flight/NUMBER.part` is one on its way that can be continued, by `NUMBER.journal`
    - `files/PATH` is a whole file, staged
    - `in-flight.json` is for `leftovers`
    """

    def __init__(
        self,
        root: Path,
        name: str = "in-flight",
        disk: Disk | None = None,
        *,
        file_mode: int | None = None,
    ) -> None:
        """`name` tells the files of one engine from those of another.

        `file_mode` is for files that a program has made which gives them a mode of its own.
        """
        self._root = root
        self._disk = disk or Disk()
        self._file_mode = file_mode
        self._in_flight = root / name
        self._files = root / "files"
        self._journal = root / f"{name}.json"
        self._folders: set[Path] = set()
        self._written_back: dict[str, int] = {}

    def make(self) -> None:
        """Make the folder where it is missing."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._in_flight.mkdir(exist_ok=True)
        self._files.mkdir(exist_ok=True)
        self._record(())

    def target(self, number: int) -> Path:
        """Return where a file is to arrive."""
        return self._in_flight / f"{number}{_ARRIVED}"

    def staged_path(self, file: FileRecord) -> Path:
        """Return where a whole file lies."""
        return self._files / file.path

    def partial(self, number: int) -> tuple[Path, Path]:
        """Return where a file that can be continued is on its way, and its journal."""
        return self._in_flight / f"{number}.part", self._in_flight / f"{number}.journal"

    def mark_arrived(self, number: int) -> None:
        """A file that could be continued has arrived."""
        self.partial(number)[0].replace(self.target(number))

    def continued(self) -> set[int]:
        """Return the numbers of the files that can be continued."""
        if not self._in_flight.exists():
            return set()
        return {int(entry.stem) for entry in self._in_flight.glob("*.journal")}

    def reclaim(self, file: FileRecord, inode: int) -> None:
        """Bring a file that can be continued back from wherever its arrival had brought it."""
        partial, _ = self.partial(file.number)
        for path in (self.target(file.number), self.staged_path(file)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if path.stat().st_ino == inode:
                    path.replace(partial)

    def forget(self, *numbers: int) -> None:
        """Remove what there is of files that could be continued, and their journals."""
        for number in numbers:
            for path in self.partial(number):
                path.unlink(missing_ok=True)

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

    def move_arrived(self, files: list[FileRecord]) -> Moved:
        """Move files that arrived to `files`, and sync them there.

        A file of another size than planned is removed.
        """
        self._record(files)
        moved = Moved([], [])
        for file in files:
            has_size = self._move_to_files(file)
            if has_size is None:
                moved.gone.append(file)
            elif has_size:
                moved.whole.append(file)
        self._sync([self._files / file.path for file in moved.whole])
        return moved

    def remove_partial(self) -> None:
        """Remove the files that have not arrived."""
        for entry in os.scandir(self._in_flight):
            if not entry.name.endswith((_ARRIVED, *_CONTINUED)):
                _remove(entry)

    def leftovers(self) -> dict[int, str | None]:
        """Return the numbers of files that an earlier fetch left whole; remove those it did not.

        With a number comes the validator that its file must have, None for any; see `is_left`.
        """
        if not self._in_flight.exists():
            return {}
        journal = self._read_journal()
        same_boot = journal.boot_id == self._disk.boot_id
        left: dict[int, str | None] = {**journal.moved} if same_boot else {}
        for entry in os.scandir(self._in_flight):
            if entry.name.endswith(_CONTINUED):
                continue
            number = number_in(entry.name)
            if same_boot and number is not None and entry.name.endswith(_ARRIVED):
                left[number] = None
            else:
                _remove(entry)
        return left

    def _read_journal(self) -> _Journal:
        try:
            return msgspec.json.decode(self._journal.read_bytes(), type=_Journal)
        except (FileNotFoundError, *DECODE_ERRORS):
            return _Journal("", {})

    def _record(self, files: Iterable[FileRecord]) -> None:
        """Write the journal in one step; it need not outlive the boot."""
        journal = _Journal(self._disk.boot_id, {file.number: file.validator for file in files})
        draft = self._journal.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(journal))
        draft.replace(self._journal)

    def _move_to_files(self, file: FileRecord) -> bool | None:
        """Return whether a file has its planned size, None where it is gone."""
        target, path = self.target(file.number), self._files / file.path
        try:
            size = target.stat().st_size
        except FileNotFoundError:  # moved already, before the daemon died
            return True if path.is_file() and path.stat().st_size == file.size else None
        if size != file.size:
            target.unlink()
            return False
        if self._file_mode is not None:
            with contextlib.suppress(OSError):  # a file system that keeps no modes
                target.chmod(self._file_mode)
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        target.rename(path)
        return True

    def _sync(self, paths: list[Path]) -> None:
        if len(paths) > _FEW:
            _with(self._root, self._disk.sync_all)
            return
        for path in paths:
            _with(path, self._disk.sync)
        folders = {folder for path in paths for folder in path.parents}
        for folder in folders - set(self._root.parents):
            _with(folder, os.fsync)

    def _write_back(self, entry: os.DirEntry[str], size: int) -> None:
        if size - self._written_back.get(entry.name, 0) >= _WRITEBACK:
            self._written_back[entry.name] = size
            _with(entry, self._disk.write_back)


def is_left(file: FileRecord, validator: str | None) -> bool:
    """Tell whether what is left, of an object with that validator, is the file that is planned."""
    return validator is None or validators.same(file.validator, validator)


def vanished() -> Vanished:
    """Return the error of files that arrived and were removed before they were staged."""
    return Vanished("files vanished from the staging folder; resume to fetch them again")


def mode_by_umask() -> int:
    """Return the mode that a new file has by the umask of this process: proc_pid_status(5)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 0o666 & ~int(status.get("Umask", "022"), 8)


def number_in(path: str) -> int | None:
    """Return the number of the file whose target, or temporary file, `path` ends with."""
    match = _NUMBER.search(path)
    return int(match[1]) if match else None


def _remove(entry: os.DirEntry[str]) -> None:
    """Remove a file, or a folder that another version of the downloader has made."""
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry)
    else:
        Path(entry).unlink()


def _with(path: os.PathLike[str], action: Callable[[int], object]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        action(descriptor)
    finally:
        os.close(descriptor)
