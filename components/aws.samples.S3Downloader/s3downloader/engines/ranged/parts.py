"""How an object is cut into the parts that are asked for one by one."""

from __future__ import annotations

import msgspec

__all__ = ["Layout", "PartState", "layout_of"]

_MIB = 1 << 20
_SMALLEST, _LARGEST = 8 * _MIB, 64 * _MIB
_PARTS = 256  # as many parts as keep a journal small and connections long


class PartState(msgspec.Struct, frozen=True):
    """How far a part has come: `done` bytes from its start, and their running CRC."""

    done: int = 0
    crc: int = 0


class Layout(msgspec.Struct, frozen=True):
    """An object of `size` bytes, more than 0, in parts of at most `part` bytes.

    A part never crosses a border of the object's own blocks of `block` bytes, those in which it
    was uploaded: where the store has a checksum of each, it can be compared with that of our parts.
    """

    size: int
    block: int
    part: int

    def __len__(self) -> int:
        blocks, rest = divmod(self.size, self.block)
        return blocks * self._parts_per_block + -(-rest // self.part)

    def index(self, offset: int) -> int:
        """Return the part that the byte at `offset` is in."""
        block, within = divmod(offset, self.block)
        return block * self._parts_per_block + within // self.part

    def start(self, index: int) -> int:
        """Return the offset of a part in the object."""
        block, within = divmod(index, self._parts_per_block)
        return block * self.block + within * self.part

    def length(self, index: int) -> int:
        """Return the bytes of a part."""
        start = self.start(index)
        border = (start // self.block + 1) * self.block
        return min(start + self.part, border, self.size) - start

    @property
    def _parts_per_block(self) -> int:
        return -(-self.block // self.part)


def layout_of(size: int, *, part_size: int | None = None, block: int | None = None) -> Layout:
    """Cut an object of `size` bytes; without `part_size`, into parts of 8 to 64 MiB by its size."""
    block = min(block or size, size)
    if part_size is None:
        wanted = -(-size // _PARTS // _MIB) * _MIB
        part_size = max(_SMALLEST, min(wanted, _LARGEST))
    parts = -(-block // part_size)
    return Layout(size, block, -(-block // parts) if block < size else part_size)
