"""What is known of a file that is under way, kept beside it: one record for each way to die.

- The live record has a slot for each part, written after each chunk and never synced. It survives
  the process, as the chunk in the page cache does, and counts under the boot that wrote it alone.
- The synced record is written after the data that it tells of was synced. It survives a loss of
  power. There are two copies, written in turn: a loss of power can damage only the newer one.

Both have a check sum for every unit that is written at once. The head says what the file is of.

Another version of the downloader may have written it. Fields that are added to the head are passed
over by an earlier one, which never writes a head again. Whatever it may not pass over raises the
head's `version`: then the file is begun anew. It is too where the head names an unknown CRC.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ...core import validators
from ...core.checksums import CRCS
from ...core.decoding import DECODE_ERRORS
from ..disk import Disk
from .parts import Layout, PartState

__all__ = ["Head", "Journal"]

_VERSION = 1
_HEAD_BYTES = 4_096
_PREFIX = struct.Struct("<II")  # length and check sum of the head
_SLOT = struct.Struct("<QQQI4x")  # done, CRC, boot, check sum
_COPY = struct.Struct("<QI4x")  # sequence number and check sum of a copy
_PART = struct.Struct("<QQ")  # done, CRC


class Head(msgspec.Struct, frozen=True):
    """What a file is of: the object's version, how it is cut, and which CRC its parts have.

    `validator` is the one that its listing tells, `own` the one that the object itself has where
    that is another. `inode` is that of the file on disk.
    """

    validator: str = msgspec.field(name="etag")
    layout: Layout
    crc: str
    inode: int
    version: int = _VERSION
    own: str = ""

    @property
    def pin(self) -> str:
        """The validator of the object that the bytes are of, empty for none."""
        return self.own or self.validator

    def continues(self, validator: str) -> bool:
        """Tell whether the file can be continued where the listing tells `validator`.

        Without any validator it cannot: nothing tells that the object is the same.
        """
        is_listed = validators.same(self.validator, validator) or not (self.validator or validator)
        return bool(self.pin) and is_listed


class Journal:
    """The journal of one file, open. Its methods block on the disk and raise OSError."""

    def __init__(self, descriptor: int, head: Head, disk: Disk, sequence: int = 0) -> None:
        self.head = head
        self.synced = [PartState()] * len(head.layout)
        """How far the parts were when that was last written down for good."""
        self._descriptor = descriptor
        self._disk = disk
        self._sequence = sequence
        self._boot = _boot(disk)
        self._slots = _HEAD_BYTES
        self._copies = _HEAD_BYTES + len(head.layout) * _SLOT.size

    @classmethod
    def create(cls, path: Path, head: Head, disk: Disk) -> Journal:
        """Make the journal of a file of which nothing is there yet."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            journal = cls(descriptor, head, disk)
            disk.allocate(descriptor, journal._size)
            encoded = msgspec.json.encode(head)
            prefix = _PREFIX.pack(len(encoded), zlib.crc32(encoded))
            disk.write(descriptor, prefix + encoded, 0)
            journal.commit([PartState()] * len(head.layout))
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    @classmethod
    def open(cls, path: Path, disk: Disk) -> tuple[Journal, list[PartState]] | None:
        """Return the journal and how far its parts are; None where it cannot be read."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            head = _read_head(descriptor)
            journal = cls(descriptor, head, disk) if head else None
            if journal and os.fstat(descriptor).st_size == journal._size:
                return journal, journal._load()
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def record(self, index: int, state: PartState) -> None:
        """Write down how far a part is, for as long as this boot lasts.

        One slot is written at once: a kill comes before or after it, never within.
        """
        packed = _SLOT.pack(state.done, state.crc, self._boot, _slot_check(state, self._boot))
        self._disk.write(self._descriptor, packed, self._slots + index * _SLOT.size)

    def commit(self, states: Sequence[PartState]) -> None:
        """Write down how far all parts are, for good. What they tell of must be synced already."""
        self._sequence += 1
        body = b"".join(_PART.pack(state.done, state.crc) for state in states)
        check = zlib.crc32(body, self._sequence)
        offset = self._copies + (self._sequence % 2) * self._copy_bytes
        self._disk.write(self._descriptor, _COPY.pack(self._sequence, check) + body, offset)
        self._disk.sync(self._descriptor)
        self.synced = list(states)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    @property
    def _size(self) -> int:
        return self._copies + 2 * self._copy_bytes

    @property
    def _copy_bytes(self) -> int:
        return _COPY.size + len(self.head.layout) * _PART.size

    def _load(self) -> list[PartState]:
        copies = self._read_copy(0), self._read_copy(1)
        self._sequence, synced = max(copies, key=lambda copy: copy[0])
        self.synced = self._plausible(synced)
        count = len(self.head.layout)
        raw = os.pread(self._descriptor, count * _SLOT.size, self._slots)
        states = list(synced)
        for index, (done, crc, boot, check) in enumerate(_SLOT.iter_unpack(raw)):
            state = PartState(done, crc)
            if boot == self._boot and check == _slot_check(state, boot):
                states[index] = state
        return self._plausible(states)

    def _plausible(self, states: list[PartState]) -> list[PartState]:
        return [
            state if state.done <= self.head.layout.length(index) else PartState()
            for index, state in enumerate(states)
        ]

    def _read_copy(self, number: int) -> tuple[int, list[PartState]]:
        """Return the sequence number and the states of a copy; 0 for one that is damaged."""
        offset = self._copies + number * self._copy_bytes
        raw = os.pread(self._descriptor, self._copy_bytes, offset)
        body = raw[_COPY.size :]
        if len(raw) == self._copy_bytes:
            sequence, check = _COPY.unpack_from(raw)
            # The check sum has room for 32 bits of the number, which never needs more.
            if 0 < sequence <= 0xFFFFFFFF and check == zlib.crc32(body, sequence):
                return sequence, [PartState(*part) for part in _PART.iter_unpack(body)]
        return 0, [PartState()] * len(self.head.layout)


def _read_head(descriptor: int) -> Head | None:
    raw = os.pread(descriptor, _HEAD_BYTES, 0)
    if len(raw) < _HEAD_BYTES:
        return None
    length, check = _PREFIX.unpack_from(raw)
    encoded = raw[_PREFIX.size : _PREFIX.size + length]
    if zlib.crc32(encoded) != check:
        return None
    try:
        head = msgspec.json.decode(encoded, type=Head)
    except DECODE_ERRORS:
        return None
    return head if head.version == _VERSION and head.crc in CRCS else None


def _boot(disk: Disk) -> int:
    return int.from_bytes(bytes.fromhex(disk.boot_id.replace("-", ""))[:8], "little")


def _slot_check(state: PartState, boot: int) -> int:
    return zlib.crc32(struct.pack("<QQQ", state.done, state.crc, boot))
