"""A file whose parts arrive one by one, in any order, through any number of interruptions."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock

from ...core import validators
from ...core.checksums import CRCS, Crc, Mismatch
from ...core.records import FileRecord
from ..disk import Disk
from .journal import Head, Journal
from .parts import Layout, PartState

__all__ = ["Transfer", "begin_or_continue"]

_BLOCK = 1 << 20


class Transfer:
    """The file on disk, its journal, and how far each part is.

    `file.validator` is the validator of the object that the bytes are of.

    `write`, `rewind`, `sync`, `reset_damaged`, `finish` and `close` block on the disk and raise
    OSError; they are for threads, `write` for several at once, each with a part of its own. A file
    that is closed is not synced any more. What a sync that failed was to bring to safety counts as
    missing from then on.
    """

    def __init__(
        self,
        file: FileRecord,
        path: Path,
        descriptor: int,
        journal: Journal,
        states: list[PartState],
        disk: Disk,
    ) -> None:
        self.file = file
        self.path = path
        self._descriptor = descriptor
        self._journal = journal
        self._states = states
        self._disk = disk
        self._lock = Lock()  # for the journal's synced record, and the descriptors
        self._is_open = True
        self._is_sound = True
        self._waiting = deque(self._incomplete())

    @property
    def layout(self) -> Layout:
        """How the object is cut."""
        return self._journal.head.layout

    @property
    def crc(self) -> Crc:
        """The CRC that is taken of each part."""
        return CRCS[self._journal.head.crc]

    @property
    def bytes_done(self) -> int:
        """How many bytes are here."""
        return sum(state.done for state in self._states)

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are here."""
        return self.bytes_done == self.layout.size

    @property
    def bytes_unsynced(self) -> int:
        """How many bytes a loss of power would take."""
        return self.bytes_done - sum(state.done for state in self._journal.synced)

    @property
    def parts_waiting(self) -> int:
        """How many parts nobody has claimed yet."""
        return len(self._waiting)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The length and the CRC of each part, in order, once all have arrived."""
        return [(state.done, state.crc) for state in self._states]

    def claim(self) -> int | None:
        """Hand out a part that is to be fetched, None when there is none left."""
        return self._waiting.popleft() if self._waiting else None

    def missing(self, index: int) -> tuple[int, int]:
        """Return the range of a part that is still missing: the start, and the end after it."""
        start = self.layout.start(index)
        return start + self._states[index].done, start + self.layout.length(index)

    def write(self, index: int, data: bytes | memoryview) -> None:
        """Put the next bytes of a part in their place, then into the journal."""
        state = self._states[index]
        self._disk.write(self._descriptor, data, self.layout.start(index) + state.done)
        state = PartState(state.done + len(data), self.crc.extend(state.crc, data))
        self._states[index] = state
        self._journal.record(index, state)

    def write_through(self, offset: int, data: memoryview) -> None:
        """Put bytes of an answer that began at the first byte in their places, by their offset.

        Those that are there already are passed over.
        """
        while data:
            index = self.layout.index(offset)
            start, end = self.missing(index)
            count = min(len(data), end - offset)
            fresh = data[max(0, start - offset) : count]
            if fresh:
                self.write(index, fresh)
            offset, data = offset + count, data[count:]

    def state(self, index: int) -> PartState:
        """Return how far a part is, for `rewind`."""
        return self._states[index]

    def states(self) -> dict[int, PartState]:
        """Return how far all parts are, for `rewind`."""
        return dict(enumerate(self._states))

    def rewind(self, states: Mapping[int, PartState]) -> None:
        """Forget what has come of these parts since they were so far."""
        with self._lock:
            synced = list(self._journal.synced)
            for index, state in states.items():
                self._states[index] = state
                synced[index] = min(synced[index], state, key=lambda known: known.done)
                self._journal.record(index, state)
            self._journal.commit(synced)

    def sync(self) -> None:
        """Bring what is here to safety: first the data, then the journal that tells of it.

        Raises FileNotFoundError where the file has lost its name: nobody could ever use it.
        """
        with self._lock:
            if not self._is_open or not self._is_sound:
                return
            if self.path.stat().st_ino != os.fstat(self._descriptor).st_ino:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
            states = list(self._states)
            try:
                self._disk.sync(self._descriptor)
            except OSError:
                self._is_sound = False  # the kernel has dropped what it told of: fsync(2)
                self._forget_unsynced()
                raise
            self._journal.commit(states)

    def reset_damaged(self, mismatch: Mismatch) -> int:
        """Have what may be damaged fetched again; return how many bytes that are.

        These are the parts that the store's own checksums blame, else those that the disk does not
        hold as they arrived, else all.
        """
        damaged = self._parts_blamed(mismatch) or self._crc_mismatches()
        self._reset(damaged or range(len(self.layout)))
        return sum(self.layout.length(index) for index in self._waiting)

    def check(self) -> None:
        """Have those parts fetched again that the disk does not hold as the journal says."""
        self._reset(self._crc_mismatches())

    def finish(self) -> None:
        """Bring a file that is whole to safety, and let go of it.

        Raises OSError where that fails, or has failed before: then the journal tells of what is
        missing, which a sync of the file by its name would not see to.
        """
        if self.bytes_unsynced:
            self.sync()
        if not self._is_sound:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
        self.close()

    def close(self) -> None:
        """Let go of the files; everything stays as it is."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            try:
                if not self._is_sound:
                    self._forget_unsynced()
            finally:
                self._journal.close()
                os.close(self._descriptor)

    def _forget_unsynced(self) -> None:
        for index, state in enumerate(self._journal.synced):
            self._journal.record(index, state)

    def _incomplete(self) -> list[int]:
        states = enumerate(self._states)
        return [index for index, state in states if state.done < self.layout.length(index)]

    def _reset(self, indices: Iterable[int]) -> None:
        with self._lock:
            synced = list(self._journal.synced)
            for index in indices:
                self._states[index] = synced[index] = PartState()
                self._journal.record(index, PartState())
            self._journal.commit(synced)
        self._waiting = deque(self._incomplete())

    def _parts_blamed(self, mismatch: Mismatch) -> list[int]:
        layout = self.layout
        return [
            index
            for index in range(len(layout))
            if any(
                blamed.offset < layout.start(index) + layout.length(index)
                and layout.start(index) < blamed.offset + blamed.length
                for blamed in mismatch.damaged
            )
        ]

    def _crc_mismatches(self) -> list[int]:
        return [i for i, state in enumerate(self._states) if self._crc_on_disk(i) != state.crc]

    def _crc_on_disk(self, index: int) -> int:
        at = self.layout.start(index)
        end = at + self._states[index].done
        crc = 0
        while at < end:
            block = os.pread(self._descriptor, min(_BLOCK, end - at), at)
            if not block:  # the file is shorter than it was
                return -1
            crc = self.crc.extend(crc, block)
            at += len(block)
        return crc


def begin_or_continue(
    file: FileRecord,
    path: Path,
    journal_path: Path,
    *,
    listed: str | None = None,
    layout: Layout,
    crc: Crc,
    disk: Disk,
) -> Transfer:
    """Open the transfer of `file` to `path`, from where it was left or from its beginning.

    `file.validator` is the validator of the object, `listed` the one in its listing, where that is
    another. Another validator, or none, voids what is there. What is there but does not fit the
    journal, because the file was replaced or cut, is checked part by part. `layout` and `crc` are
    for a new beginning.
    """
    listed = file.validator if listed is None else listed
    found = Journal.open(journal_path, disk)
    if found:
        journal, states = found
        with contextlib.suppress(FileNotFoundError):
            if _is_of(journal.head, file, listed):
                return _continue(file, path, journal, states, disk)
        journal.close()
    journal_path.unlink(missing_ok=True)  # a new file may get the inode of which that tells
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        disk.allocate(descriptor, file.size)
        own = "" if file.validator == listed else file.validator
        head = Head(listed, layout, crc.name, os.fstat(descriptor).st_ino, own=own)
        journal = Journal.create(journal_path, head, disk)
    except BaseException:
        os.close(descriptor)
        journal_path.unlink(missing_ok=True)
        path.unlink()  # on a full disk it has what was left
        raise
    return Transfer(file, path, descriptor, journal, [PartState()] * len(layout), disk)


def _is_of(head: Head, file: FileRecord, listed: str) -> bool:
    is_same = head.continues(listed) and validators.same(head.pin, file.validator)
    return is_same and head.layout.size == file.size


def _continue(
    file: FileRecord, path: Path, journal: Journal, states: list[PartState], disk: Disk
) -> Transfer:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    stat = os.fstat(descriptor)
    transfer = Transfer(file, path, descriptor, journal, states, disk)
    if (stat.st_size, stat.st_ino) != (file.size, journal.head.inode):
        transfer.check()
        disk.allocate(descriptor, file.size)
        os.ftruncate(descriptor, file.size)
    return transfer
