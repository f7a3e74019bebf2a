"""A large file in transit: writes chunks in their places, and continues after interruptions."""

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
    """A large file on disk, its journal, and the state of each part.

    `file.validator` is the validator of the object to which the bytes belong.

    `write`, `rewind`, `sync`, `reset_damaged`, `finish` and `close` block on the disk, raise
    OSError, and should run in threads. Several threads may call `write` at once for different
    parts. `sync` does nothing after `close`. If a sync fails, the bytes that it should have synced
    count as missing from then on.
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
        """How the object is divided into parts."""
        return self._journal.head.layout

    @property
    def crc(self) -> Crc:
        """The CRC that is computed for each part."""
        return CRCS[self._journal.head.crc]

    @property
    def bytes_done(self) -> int:
        """How many bytes have arrived."""
        return sum(state.done for state in self._states)

    @property
    def is_complete(self) -> bool:
        """Whether all bytes have arrived."""
        return self.bytes_done == self.layout.size

    @property
    def bytes_unsynced(self) -> int:
        """How many bytes would be lost with the power."""
        return self.bytes_done - sum(state.done for state in self._journal.synced)

    @property
    def parts_waiting(self) -> int:
        """How many parts have not been claimed yet."""
        return len(self._waiting)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The length in bytes and the CRC of each part, in order. Valid when all have arrived."""
        return [(state.done, state.crc) for state in self._states]

    def claim(self) -> int | None:
        """Return the index of the next part to fetch, None if there is none left."""
        return self._waiting.popleft() if self._waiting else None

    def missing(self, index: int) -> tuple[int, int]:
        """Return the missing range of a part: its first offset, and the one after its last byte."""
        start = self.layout.start(index)
        return start + self._states[index].done, start + self.layout.length(index)

    def write(self, index: int, data: bytes | memoryview) -> None:
        """Write the next bytes of a part to the file, then record them in the journal."""
        state = self._states[index]
        self._disk.write(self._descriptor, data, self.layout.start(index) + state.done)
        state = PartState(state.done + len(data), self.crc.extend(state.crc, data))
        self._states[index] = state
        self._journal.record(index, state)

    def write_through(self, offset: int, data: memoryview) -> None:
        """Write bytes of a response with the complete object, at their `offset` in the object.

        Bytes that have already arrived are skipped.
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
        """Return the state of a part, for `rewind`."""
        return self._states[index]

    def states(self) -> dict[int, PartState]:
        """Return the states of all parts by index, for `rewind`."""
        return dict(enumerate(self._states))

    def rewind(self, states: Mapping[int, PartState]) -> None:
        """Set parts back to earlier states, and discard what has arrived since then."""
        with self._lock:
            synced = list(self._journal.synced)
            for index, state in states.items():
                self._states[index] = state
                synced[index] = min(synced[index], state, key=lambda known: known.done)
                self._journal.record(index, state)
            self._journal.commit(synced)

    def sync(self) -> None:
        """Sync the data, then the journal. Does nothing if the file is closed or a sync failed.

        Raises FileNotFoundError if somebody has removed or replaced the file.
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
                self._is_sound = False  # the kernel has dropped the unsynced pages: fsync(2)
                self._discard_unsynced()
                raise
            self._journal.commit(states)

    def reset_damaged(self, mismatch: Mismatch) -> int:
        """Reset the parts that may be damaged, so that they are fetched again.

        These are the parts with which the object store's checksums do not match; if it has none of
        parts, those whose bytes on disk differ from what arrived; if there are none, all. Returns
        the number of bytes to fetch.
        """
        damaged = self._parts_mismatched(mismatch) or self._crc_mismatches()
        self._reset(damaged or range(len(self.layout)))
        return sum(self.layout.length(index) for index in self._waiting)

    def reset_mismatched(self) -> None:
        """Reset the parts whose bytes on disk differ from the CRC in the journal."""
        self._reset(self._crc_mismatches())

    def finish(self) -> None:
        """Sync and close a complete file.

        Raises OSError if this sync or an earlier one failed. Then the journal has which bytes are
        missing. A later sync of the file would not report them.
        """
        if self.bytes_unsynced:
            self.sync()
        if not self._is_sound:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))
        self.close()

    def close(self) -> None:
        """Close the file and its journal. Both stay on disk."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            try:
                if not self._is_sound:
                    self._discard_unsynced()
            finally:
                self._journal.close()
                os.close(self._descriptor)

    def _discard_unsynced(self) -> None:
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

    def _parts_mismatched(self, mismatch: Mismatch) -> list[int]:
        """Return the indices of the parts that overlap with the damaged ranges of `mismatch`."""
        layout = self.layout
        return [
            index
            for index in range(len(layout))
            if any(
                damaged.offset < layout.start(index) + layout.length(index)
                and layout.start(index) < damaged.offset + damaged.length
                for damaged in mismatch.damaged
            )
        ]

    def _crc_mismatches(self) -> list[int]:
        return [i for i, state in enumerate(self._states) if self._crc_on_disk(i) != state.crc]

    def _crc_on_disk(self, index: int) -> int:
        """Read a part from the disk and return its CRC, -1 if the file is too short."""
        at = self.layout.start(index)
        end = at + self._states[index].done
        crc = 0
        while at < end:
            block = os.pread(self._descriptor, min(_BLOCK, end - at), at)
            if not block:
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
    """Open the transfer of `file` to `path`. Continue an earlier one if possible.

    `file.validator` is the validator of the object; `listed` is the one in its listing, if that
    differs. An earlier transfer with another validator, or with none, is discarded. If the file on
    disk was replaced or cut, each part is compared with its CRC in the journal. `layout` and `crc`
    are used for a new transfer only. Blocks on the disk and raises OSError.
    """
    listed = file.validator if listed is None else listed
    found = Journal.open(journal_path, disk)
    if found:
        journal, states = found
        with contextlib.suppress(FileNotFoundError):
            if _is_of(journal.head, file, listed):
                return _continue(file, path, journal, states, disk)
        journal.close()
    # First, because the new file may get the inode that the old journal names.
    journal_path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        disk.allocate(descriptor, file.size)
        own = "" if file.validator == listed else file.validator
        head = Head(listed, layout, crc.name, os.fstat(descriptor).st_ino, own=own)
        journal = Journal.create(journal_path, head, disk)
    except BaseException:
        os.close(descriptor)
        journal_path.unlink(missing_ok=True)
        path.unlink()  # it occupies the last free space of a full disk
        raise
    return Transfer(file, path, descriptor, journal, [PartState()] * len(layout), disk)


def _is_of(head: Head, file: FileRecord, listed: str) -> bool:
    is_same = head.continues(listed) and validators.same(head.pin, file.validator)
    return is_same and head.layout.size == file.size


def _continue(
    file: FileRecord, path: Path, journal: Journal, states: list[PartState], disk: Disk
) -> Transfer:
    """Open an existing file. If it was replaced or cut, check each part."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    stat = os.fstat(descriptor)
    transfer = Transfer(file, path, descriptor, journal, states, disk)
    if (stat.st_size, stat.st_ino) != (file.size, journal.head.inode):
        transfer.reset_mismatched()
        disk.allocate(descriptor, file.size)
        os.ftruncate(descriptor, file.size)
    return transfer
