"""Divides an object into parts, each of which is requested by itself."""

from __future__ import annotations

import msgspec

__all__ = ["Layout", "PartState", "layout_of"]

_MIB = 1 << 20
_SMALLEST, _LARGEST = 8 * _MIB, 64 * _MIB
_PARTS = 256  # few enough for a small journal, and for long requests


class PartState(msgspec.Struct, frozen=True):
    """How much of a part is on disk: `done` bytes from its start, with their running CRC."""

    done: int = 0
    crc: int = 0


class Layout(msgspec.Struct, frozen=True):
    """Divides an object of `size` bytes, at least 1, into parts of at most `part` bytes.

    The object was uploaded in blocks of `block` bytes. A part is always inside one block. So if
    the object store has a checksum of each block, it can be compared with those of the parts.
    """

    size: int
    block: int
    part: int

    def __len__(self) -> int:
        blocks, rest = divmod(self.size, self.block)
        return blocks * self._parts_per_block + -(-rest // self.part)

    def index(self, offset: int) -> int:
        """Return the index of the part that contains the byte at `offset`."""
        block, within = divmod(offset, self.block)
        return block * self._parts_per_block + within // self.part

    def start(self, index: int) -> int:
        """Return the offset of a part in the object, in bytes."""
        block, within = divmod(index, self._parts_per_block)
        return block * self.block + within * self.part

    def length(self, index: int) -> int:
        """Return the length of a part in bytes."""
        start = self.start(index)
        block_end = (start // self.block + 1) * self.block
        return min(start + self.part, block_end, self.size) - start

    @property
    def _parts_per_block(self) -> int:
        return -(-self.block // self.part)


def layout_of(size: int, *, part_size: int | None = None, block: int | None = None) -> Layout:
    """Return the parts of an object of `size` bytes, uploaded in blocks of `block` bytes.

    Without `part_size`, parts have 8 to 64 MiB, larger ones for larger objects. Parts are made
    smaller if that divides each block into equal parts.
    """
    block = min(block or size, size)
    if part_size is None:
        wanted = -(-size // _PARTS // _MIB) * _MIB
        part_size = max(_SMALLEST, min(wanted, _LARGEST))
    parts = -(-block // part_size)
    return Layout(size, block, -(-block // parts) if block < size else part_size)
