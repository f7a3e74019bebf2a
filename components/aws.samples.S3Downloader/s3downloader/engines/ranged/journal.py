"""The journal of a file in transit, stored beside it. It records how much of each part has arrived.

It has one record for each kind of failure:

- The live record has a slot for each part. A slot is written after each chunk and never synced.
  Like the chunk in the page cache, it survives kill -9. It is valid only in the boot in which it
  was written.
- The synced record is written after its data was synced. It survives a loss of power. There are two
  copies, written in turn, so a loss of power can damage only the newer one.

Each slot and each copy has a checksum. The head says to which object the file belongs.

Another version of the downloader may have written the journal. Unknown fields of the head are
ignored, and a head is never written again. If ignoring a new field would be wrong, the head's
`version` is raised. A file whose journal has another version, or an unknown CRC, is fetched from
its beginning.
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
_PREFIX = struct.Struct("<II")  # length and checksum of the head
_SLOT = struct.Struct("<QQQI4x")  # done, CRC, boot, checksum
_COPY = struct.Struct("<QI4x")  # sequence number and checksum of a copy
_PART = struct.Struct("<QQ")  # done, CRC


class Head(msgspec.Struct, frozen=True):
    """Describes a file in transit.

    - `validator` is that of the listing.
    - `layout` is how the object is divided into parts.
    - `crc` is the name of the CRC that is computed for each part.
    - `inode` is that of the file on disk.
    - `own` is the object's own validator, empty if it does not differ from the listing.
    """

    validator: str = msgspec.field(name="etag")
    layout: Layout
    crc: str
    inode: int
    version: int = _VERSION
    own: str = ""

    @property
    def pin(self) -> str:
        """The validator of the object to which the bytes belong, empty for none."""
        return self.own or self.validator

    def continues(self, validator: str) -> bool:
        """Return whether the file can be continued if the listing has `validator`.

        Without any validator it cannot, because nothing shows that the object is the same.
        """
        is_listed = validators.same(self.validator, validator) or not (self.validator or validator)
        return bool(self.pin) and is_listed


class Journal:
    """The open journal of one file. Its methods block on the disk and raise OSError."""

    def __init__(self, descriptor: int, head: Head, disk: Disk, sequence: int = 0) -> None:
        self.head = head
        self.synced = [PartState()] * len(head.layout)
        """The states of the parts in the synced record."""
        self._descriptor = descriptor
        self._disk = disk
        self._sequence = sequence
        self._boot = _boot(disk)
        self._slots = _HEAD_BYTES
        self._copies = _HEAD_BYTES + len(head.layout) * _SLOT.size

    @classmethod
    def create(cls, path: Path, head: Head, disk: Disk) -> Journal:
        """Create the journal of a file of which nothing has arrived yet."""
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
        """Return the journal and the states of its parts, None if it is missing or invalid."""
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
        """Write the state of a part to the live record, without a sync.

        The slot is written in one call, so a kill cannot leave a part of it.
        """
        packed = _SLOT.pack(state.done, state.crc, self._boot, _slot_check(state, self._boot))
        self._disk.write(self._descriptor, packed, self._slots + index * _SLOT.size)

    def commit(self, states: Sequence[PartState]) -> None:
        """Write the states of all parts to the synced record. Their data must be synced before."""
        self._sequence += 1
        body = b"".join(_PART.pack(state.done, state.crc) for state in states)
        check = zlib.crc32(body, self._sequence)
        offset = self._copies + (self._sequence % 2) * self._copy_bytes
        self._disk.write(self._descriptor, _COPY.pack(self._sequence, check) + body, offset)
        self._disk.sync(self._descriptor)
        self.synced = list(states)

    def close(self) -> None:
        """Close the journal."""
        os.close(self._descriptor)

    @property
    def _size(self) -> int:
        return self._copies + 2 * self._copy_bytes

    @property
    def _copy_bytes(self) -> int:
        return _COPY.size + len(self.head.layout) * _PART.size

    def _load(self) -> list[PartState]:
        """Read both records. Return the live states where valid, else the synced ones."""
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
        """Return the states. A state with more bytes than its part has becomes empty."""
        return [
            state if state.done <= self.head.layout.length(index) else PartState()
            for index, state in enumerate(states)
        ]

    def _read_copy(self, number: int) -> tuple[int, list[PartState]]:
        """Return the sequence number and the states of a copy. The number is 0 if it is damaged."""
        offset = self._copies + number * self._copy_bytes
        raw = os.pread(self._descriptor, self._copy_bytes, offset)
        body = raw[_COPY.size :]
        if len(raw) == self._copy_bytes:
            sequence, check = _COPY.unpack_from(raw)
            # The checksum includes 32 bits of the number, which are always enough.
            if 0 < sequence <= 0xFFFFFFFF and check == zlib.crc32(body, sequence):
                return sequence, [PartState(*part) for part in _PART.iter_unpack(body)]
        return 0, [PartState()] * len(self.head.layout)


def _read_head(descriptor: int) -> Head | None:
    """Return the head, None if it is damaged, or of an unknown version or CRC."""
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
