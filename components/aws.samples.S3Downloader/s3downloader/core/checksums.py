"""Compares bytes on disk with the checksums that the object store has of its objects.

Source: "Checking object integrity" in the Amazon S3 user guide.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from awscrt import checksums as crt

__all__ = [
    "ALGORITHMS",
    "CRCS",
    "DEFAULT_CRC",
    "Crc",
    "Expected",
    "Mismatch",
    "Part",
    "can_check_ranges",
    "check_blocks",
    "check_file",
    "check_ranges",
    "md5_etag",
]

_BLOCK = 1 << 20
_MD5_ETAG = re.compile("[0-9a-f]{32}")

Buffer = bytes | bytearray | memoryview


class Crc(msgspec.Struct, frozen=True):
    """A cyclic redundancy check as S3 computes it. It releases the GIL while it works.

    `extend(crc, data)` returns the CRC of the bytes with the CRC `crc`, followed by `data`; `crc`
    is 0 for no bytes. `combine(crc, next_crc, next_length)` does the same with the CRC and the
    length of the bytes that follow, in microseconds for any length. `size` is the size of a CRC in
    bytes.
    """

    name: str
    size: int
    extend: Callable[[int, Buffer], int]
    combine: Callable[[int, int, int], int]

    def text(self, value: int) -> str:
        """Return `value` as S3 writes it: its bytes in base64, big-endian."""
        return _base64(value.to_bytes(self.size, "big"))


CRCS: Mapping[str, Crc] = {
    crc.name: crc
    for crc in (
        Crc("CRC64NVME", 8, lambda crc, data: crt.crc64nvme(data, crc), crt.combine_crc64nvme),
        Crc("CRC32C", 4, lambda crc, data: crt.crc32c(data, crc), crt.combine_crc32c),
        Crc("CRC32", 4, lambda crc, data: crt.crc32(data, crc), crt.combine_crc32),
    )
}
"""The CRCs of S3 by name."""

DEFAULT_CRC = CRCS["CRC64NVME"]

ALGORITHMS = (*CRCS, "SHA256", "SHA1")
"""The names of S3's checksums. The cheapest to compute comes first."""


class Part(NamedTuple):
    """A part of a multipart upload: its number from 1, its offset and length in bytes."""

    number: int
    offset: int
    length: int


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The checksum that an object has according to the object store.

    `algorithm` is one of ALGORITHMS, or MD5. `value` is in base64, an MD5 in hex. A `composite`
    value is the checksum of the parts' checksums, followed by `-` and the number of parts. The
    parts have `part_size` bytes each, the last one fewer, or else the lengths `part_sizes`. `parts`
    are the parts' own checksums; it is empty if they are not known.
    """

    algorithm: str
    value: str
    composite: bool = False
    part_size: int | None = None
    part_sizes: tuple[int, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The checksum as in FileRecord.checksum: `CRC64NVME:` and the value, for example."""
        return f"{self.algorithm}:{self.value}"

    def layout(self, size: int) -> list[Part] | None:
        """Return the parts from which the checksum of an object of `size` bytes is computed.

        None if they are not known, or if they do not add up to the object.
        """
        sizes = self._sizes(size)
        count = int(self.value.rpartition("-")[2]) if self.composite else 1
        if sizes is None or sum(sizes) != size or len(sizes) != count:
            return None
        offsets = accumulate(sizes, initial=0)
        return [
            Part(number, offset, length)
            for number, (offset, length) in enumerate(zip(offsets, sizes, strict=False), 1)
        ]

    def _sizes(self, size: int) -> Sequence[int] | None:
        if not self.composite:
            return [size]
        if self.part_sizes or not self.part_size:
            return self.part_sizes or None
        return [min(self.part_size, size - at) for at in range(0, size, self.part_size)]


class Mismatch(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes do not have the wanted checksum.

    `damaged` are the parts that differ. It is empty if this cannot be determined.
    """

    algorithm: str
    wanted: str
    got: str
    damaged: tuple[Part, ...] = ()

    def __str__(self) -> str:
        text = f"the {self.algorithm} is {self.got} and should be {self.wanted}"
        numbers = ", ".join(str(part.number) for part in self.damaged)
        return f"{text}; damaged parts: {numbers}" if numbers else text


def md5_etag(validator: str) -> Expected | None:
    """Return the MD5 of an object's bytes, if its validator is an ETag of that form.

    The ETag of an object uploaded in parts has a `-`, and is not an MD5. The ETag of an object
    encrypted with SSE-KMS or SSE-C has the form of an MD5, but is not that of the bytes.
    """
    value = validator.strip('"').lower()
    return Expected(algorithm="MD5", value=value) if _MD5_ETAG.fullmatch(value) else None


def check_file(path: Path, expected: Iterable[Expected], sha256: str = "") -> list[Mismatch]:
    """Read a file once, and return a Mismatch for each checksum that it does not have.

    `sha256` is in hex. Takes 1 MiB of memory. Raises OSError, and ValueError if a composite
    checksum has no layout for the file's size.
    """
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        file.seek(0)
        return check_blocks(_blocks(file, size), size, expected, sha256)


def check_blocks(
    blocks: Iterable[Buffer], size: int, expected: Iterable[Expected], sha256: str = ""
) -> list[Mismatch]:
    """Check `size` bytes that come in blocks. Otherwise the same as `check_file`."""
    checks: list[_Check] = [_ObjectCheck(each, size) for each in expected]
    if sha256:
        checks.append(_HexCheck(sha256))
    for block in blocks if checks else ():
        for check in checks:
            check.update(memoryview(block))
    return [mismatch for check in checks if (mismatch := check.mismatch())]


def _blocks(file: io.FileIO, size: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(_BLOCK, size)))
    while count := file.readinto(buffer):
        yield buffer[:count]


def can_check_ranges(expected: Expected, lengths: Iterable[int]) -> bool:
    """Tell whether an object's checksum can be computed from the CRCs of its consecutive ranges.

    `lengths` are those of the ranges. The checksum must be a CRC. If it is composite, a range must
    end wherever a part ends.
    """
    ends = set(accumulate(lengths))
    layout = expected.layout(max(ends, default=0))
    return (
        expected.algorithm in CRCS
        and layout is not None
        and all(part.offset + part.length in ends or not part.length for part in layout)
    )


def check_ranges(expected: Expected, ranges: Sequence[tuple[int, int]]) -> Mismatch | None:
    """Compare an object's checksum with the (length, CRC) of its consecutive ranges.

    The CRCs are of the algorithm `expected.algorithm`. Returns None if the checksum matches. Raises
    ValueError if `can_check_ranges` is false.
    """
    if not can_check_ranges(expected, (length for length, _ in ranges)):
        raise ValueError(f"ranges do not fit {expected.label}")
    layout = _layout(expected, sum(length for length, _ in ranges))
    crc = CRCS[expected.algorithm]
    values = iter(ranges)
    sums = [_combined(crc, part.length, values).to_bytes(crc.size, "big") for part in layout]
    return _compare(expected, layout, sums)


def _combined(crc: Crc, length: int, ranges: Iterator[tuple[int, int]]) -> int:
    """Return the CRC of the next `length` bytes of `ranges`."""
    value = 0
    while length:
        count, follows = next(ranges)
        value = crc.combine(value, follows, count)
        length -= count
    return value


def _compare(expected: Expected, layout: Sequence[Part], sums: Sequence[bytes]) -> Mismatch | None:
    """Compare `expected` with the checksums `sums` of the parts in `layout`."""
    if expected.composite:
        digest = _new_sum(expected.algorithm)
        digest.update(b"".join(sums))
        got = f"{_base64(digest.digest())}-{len(sums)}"
    else:
        got = sums[0].hex() if expected.algorithm == "MD5" else _base64(sums[0])
    if got == expected.value:
        return None
    damaged = [
        part
        for part, value, wanted in zip(layout, sums, expected.parts, strict=False)
        if _base64(value) != wanted
    ]
    return Mismatch(
        algorithm=expected.algorithm, wanted=expected.value, got=got, damaged=tuple(damaged)
    )


def _layout(expected: Expected, size: int) -> list[Part]:
    layout = expected.layout(size)
    if layout is None:
        raise ValueError(f"{size} bytes are not the parts of {expected.label}")
    return layout


class _Sum(Protocol):
    """A running checksum, with the interface of hashlib."""

    def update(self, data: Buffer, /) -> None: ...
    def digest(self) -> bytes: ...


class _CrcSum:
    def __init__(self, crc: Crc) -> None:
        self._crc = crc
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._crc.extend(self._value, data)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._crc.size, "big")


def _new_sum(algorithm: str) -> _Sum:
    if algorithm in CRCS:
        return _CrcSum(CRCS[algorithm])
    return hashlib.new(algorithm, usedforsecurity=False)


class _Check(Protocol):
    def update(self, data: memoryview) -> None: ...
    def mismatch(self) -> Mismatch | None: ...


class _HexCheck:
    """Compares with a SHA-256 in hex."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted.lower()
        self._sum = hashlib.sha256()

    def update(self, data: memoryview) -> None:
        self._sum.update(data)

    def mismatch(self) -> Mismatch | None:
        got = self._sum.hexdigest()
        if got == self._wanted:
            return None
        return Mismatch(algorithm="SHA256", wanted=self._wanted, got=got)


class _ObjectCheck:
    """Compares with the object store's checksum. Computes it part by part."""

    def __init__(self, expected: Expected, size: int) -> None:
        self._expected = expected
        self._layout = _layout(expected, size)
        self._sums: list[bytes] = []
        self._sum = _new_sum(expected.algorithm)
        self._left = self._layout[0].length

    def update(self, data: memoryview) -> None:
        while data:
            head = data[: self._left]
            self._sum.update(head)
            self._left -= len(head)
            data = data[len(head) :]
            if not self._left:
                self._next_part()

    def _next_part(self) -> None:
        self._sums.append(self._sum.digest())
        self._sum = _new_sum(self._expected.algorithm)
        if len(self._sums) < len(self._layout):
            self._left = self._layout[len(self._sums)].length

    def mismatch(self) -> Mismatch | None:
        while len(self._sums) < len(self._layout):  # empty parts, or a file that became shorter
            self._next_part()
        return _compare(self._expected, self._layout, self._sums)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
