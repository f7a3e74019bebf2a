"""The staging folder of a download: files in transit, complete files, and recovery after a kill."""

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

__all__ = ["Moved", "Staging", "matches_leftover", "mode_by_umask", "number_in", "vanished"]

_ARRIVED = ".object"
_CONTINUED = (".part", ".journal")
_NUMBER = re.compile(r"(?:^|/)(\d+)\.object\d*$")
_FEW = 8  # so many files can be synced as quickly as with syncfs, which syncs other files too
_WRITEBACK = 8 << 20


class _Journal(msgspec.Struct, frozen=True):
    """Says which files can be kept after the process was killed.

    `boot_id` is that of the boot in which it was written. In another boot no file is kept, because
    a loss of power may have damaged it. `moved` has the validators of the files that were moved
    last, by number. A file that is not in `moved` may be of an older version of its object.
    """

    boot_id: str
    moved: dict[int, str]


class Moved(NamedTuple):
    """The result of moving files: complete ones, and missing ones.

    Files of another size than planned were deleted, and are in neither list.
    """

    complete: list[FileRecord]
    missing: list[FileRecord]


class Staging:
    """A staging folder. All methods block on the disk and raise OSError.

    - `in-flight/NUMBER.object` is a complete file. With digits after it, it is s5cmd's temporary
      file, which is in transit.
    - `in-flight/NUMBER.part` is a file in transit that can be continued. `NUMBER.journal` belongs
      to it.
    - `files/PATH` is a complete file that was moved there.
    - `in-flight.json` says which files can be kept after a kill.
    """

    def __init__(
        self,
        root: Path,
        name: str = "in-flight",
        disk: Disk | None = None,
        *,
        file_mode: int | None = None,
    ) -> None:
        """`name` is a folder name, in place of `in-flight`. Each engine uses its own.

        `file_mode` is set on complete files, if the program that wrote them sets another mode.
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
        """Create the folder if it does not exist."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._in_flight.mkdir(exist_ok=True)
        self._files.mkdir(exist_ok=True)
        self._record(())

    def target(self, number: int) -> Path:
        """Return the path to which an engine writes a file."""
        return self._in_flight / f"{number}{_ARRIVED}"

    def staged_path(self, file: FileRecord) -> Path:
        """Return the path of a complete file that was moved to `files`."""
        return self._files / file.path

    def partial(self, number: int) -> tuple[Path, Path]:
        """Return the paths of a file in transit that can be continued, and of its journal."""
        return self._in_flight / f"{number}.part", self._in_flight / f"{number}.journal"

    def mark_arrived(self, number: int) -> None:
        """Rename a file that could be continued to `target`, because it is complete."""
        self.partial(number)[0].replace(self.target(number))

    def continuable(self) -> set[int]:
        """Return the numbers of the files that can be continued."""
        if not self._in_flight.exists():
            return set()
        return {int(entry.stem) for entry in self._in_flight.glob("*.journal")}

    def reclaim(self, file: FileRecord, inode: int) -> None:
        """Move the file with this inode back, so that it can be continued.

        It has another name if the process was killed after the file was complete.
        """
        partial, _ = self.partial(file.number)
        for path in (self.target(file.number), self.staged_path(file)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if path.stat().st_ino == inode:
                    path.replace(partial)

    def delete_partial(self, *numbers: int) -> None:
        """Delete files that could be continued, and their journals."""
        for number in numbers:
            for path in self.partial(number):
                path.unlink(missing_ok=True)

    def measure(self) -> dict[int, int]:
        """Return the bytes on disk of each file in transit, by number.

        Also makes the kernel start writing large files to the disk, so that a later sync is short.
        """
        sizes: dict[int, int] = {}
        for entry in os.scandir(self._in_flight):
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat()
                size = min(stat.st_size, stat.st_blocks * 512)  # a file in transit is sparse
                if (number := number_in(entry.name)) is not None:
                    sizes[number] = size
                self._write_back(entry, size)
        return sizes

    def move_arrived(self, files: list[FileRecord]) -> Moved:
        """Move complete files from `target` to `files`, and sync them.

        A file of another size than planned is deleted.
        """
        self._record(files)
        moved = Moved([], [])
        for file in files:
            has_size = self._move_to_files(file)
            if has_size is None:
                moved.missing.append(file)
            elif has_size:
                moved.complete.append(file)
        self._sync([self._files / file.path for file in moved.complete])
        return moved

    def delete_temporary(self) -> None:
        """Delete the temporary files of s5cmd, which cannot be continued."""
        for entry in os.scandir(self._in_flight):
            if not entry.name.endswith((_ARRIVED, *_CONTINUED)):
                _remove(entry)

    def leftovers(self) -> dict[int, str | None]:
        """Return the numbers of complete files that an earlier fetch left. Delete incomplete ones.

        The value of each number is the validator that the file must have, None for any, see
        `matches_leftover`. Files that can be continued are neither returned nor deleted.
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
        """Write the journal in one step. It is not synced, because it is valid in one boot only."""
        journal = _Journal(self._disk.boot_id, {file.number: file.validator for file in files})
        draft = self._journal.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(journal))
        draft.replace(self._journal)

    def _move_to_files(self, file: FileRecord) -> bool | None:
        """Move a file to `files`. Return whether it has its planned size, None if it is missing."""
        target, path = self.target(file.number), self._files / file.path
        try:
            size = target.stat().st_size
        except FileNotFoundError:  # perhaps it was already moved, before a kill
            return True if path.is_file() and path.stat().st_size == file.size else None
        if size != file.size:
            target.unlink()
            return False
        if self._file_mode is not None:
            with contextlib.suppress(OSError):  # some file systems have no modes
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


def matches_leftover(file: FileRecord, validator: str | None) -> bool:
    """Return whether a file from `leftovers`, with this validator there, is the planned file."""
    return validator is None or validators.same(file.validator, validator)


def vanished() -> Vanished:
    """Return the error for complete files that somebody removed before they were staged."""
    return Vanished("files vanished from the staging folder; resume to fetch them again")


def mode_by_umask() -> int:
    """Return the mode of a new file by the umask of this process. Source: proc_pid_status(5)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 0o666 & ~int(status.get("Umask", "022"), 8)


def number_in(path: str) -> int | None:
    """Return the number of the file in a path of its target or temporary file, else None."""
    match = _NUMBER.search(path)
    return int(match[1]) if match else None


def _remove(entry: os.DirEntry[str]) -> None:
    """Delete a file, or a folder that another version of the downloader has created."""
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
