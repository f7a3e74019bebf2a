"""Checksums match published test vectors and a simple computation."""

from __future__ import annotations

import base64
import hashlib
import random
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3downloader.core.checksums import (
    CRCS,
    DEFAULT_CRC,
    Expected,
    can_check_ranges,
    check_file,
    check_ranges,
    md5_etag,
)

NINE = b"123456789"
MIB = 1 << 20


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def slow_crc(polynomial: int, bits: int) -> Callable[[bytes], bytes]:
    """Compute a reflected CRC bit by bit.

    Source: the catalogue of parametrised CRC algorithms.
    """

    def compute(data: bytes) -> bytes:
        value = ones = (1 << bits) - 1
        for byte in data:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (polynomial if value & 1 else 0)
        return (value ^ ones).to_bytes(bits // 8, "big")

    return compute


SUMS: dict[str, Callable[[bytes], bytes]] = {
    "CRC64NVME": slow_crc(0x9A6C9329AC4BC9B5, 64),
    "CRC32C": slow_crc(0x82F63B78, 32),
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "SHA1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
}
every_crc = pytest.mark.parametrize("name", CRCS)
every_sum = pytest.mark.parametrize("name", SUMS)


def whole(name: str, data: bytes) -> Expected:
    return Expected(algorithm=name, value=b64(SUMS[name](data)))


def composite(name: str, parts: Sequence[bytes], /, **known: Any) -> Expected:
    """Return the composite checksum that S3 has for an object uploaded in `parts`."""
    value = b64(SUMS[name](b"".join(map(SUMS[name], parts))))
    checksums = Expected(algorithm=name, value=f"{value}-{len(parts)}", composite=True)
    return msgspec.structs.replace(checksums, **known)


@every_crc
def test_the_check_values_of_the_catalogue(name: str) -> None:
    """CRC-64/NVME, CRC-32/ISCSI and CRC-32/ISO-HDLC."""
    known = {"CRC64NVME": 0xAE8B14860A799888, "CRC32C": 0xE3069283, "CRC32": 0xCBF43926}
    assert CRCS[name].extend(0, NINE) == known[name]
    assert CRCS[name].text(known[name]) == b64(SUMS[name](NINE))


def test_the_default_is_what_s3_gives_every_new_object() -> None:
    assert DEFAULT_CRC.name == "CRC64NVME"


@every_crc
@given(pieces=st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_crcs_run_on_and_combine(name: str, pieces: list[bytes]) -> None:
    crc = CRCS[name]
    running = combined = 0
    for piece in pieces:
        running = crc.extend(running, memoryview(piece))
        combined = crc.combine(combined, crc.extend(0, piece), len(piece))
    assert running == combined == crc.extend(0, b"".join(pieces))
    assert crc.text(running) == b64(SUMS[name](b"".join(pieces)))


@every_sum
@pytest.mark.parametrize("size", [0, 1, 70_001])
def test_a_file_is_held_against_its_checksum(name: str, size: int, tmp_path: Path) -> None:
    data = random.Random(size).randbytes(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert check_file(path, [whole(name, data)]) == []
    [mismatch] = check_file(path, [whole(name, data + b"!")])
    assert (mismatch.algorithm, mismatch.got) == (name, b64(SUMS[name](data)))
    assert str(mismatch) == f"the {name} is {mismatch.got} and should be {mismatch.wanted}"


def test_one_reading_serves_all_checksums(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3 * MIB + 5)
    path = tmp_path / "file"
    path.write_bytes(data)
    crc = DEFAULT_CRC.text(DEFAULT_CRC.extend(0, data))
    etag = md5_etag(f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')
    assert etag is not None
    parts = [data[:MIB], data[MIB : 2 * MIB], data[2 * MIB :]]
    by_parts = composite("SHA256", parts, part_sizes=tuple(map(len, parts)))
    expected = [Expected(algorithm="CRC64NVME", value=crc), etag, by_parts]
    sha256 = hashlib.sha256(data).hexdigest()
    assert check_file(path, expected, sha256.upper()) == []
    wrong = Expected(algorithm="MD5", value="0" * 32)
    failed = check_file(path, [wrong, *expected], "0" * 64)
    assert [(each.algorithm, each.got) for each in failed] == [
        ("MD5", etag.value),
        ("SHA256", sha256),
    ]


@every_sum
@pytest.mark.parametrize("sizes", [[MIB, MIB, 7], [10], [3 * MIB], [5, 5], [1, 2, 3]])
def test_the_damaged_part_is_told(name: str, sizes: list[int], tmp_path: Path) -> None:
    if name in CRCS and max(sizes) >= MIB:
        sizes = [size // 100 + 1 for size in sizes]  # the computation bit by bit is slow
    parts = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    checksums = tuple(b64(SUMS[name](part)) for part in parts)
    expected = composite(name, parts, part_sizes=tuple(sizes), parts=checksums)
    path = tmp_path / "file"
    path.write_bytes(b"".join(parts))
    assert check_file(path, [expected]) == []

    changed = bytearray(b"".join(parts))
    changed[-1] ^= 1
    path.write_bytes(changed)
    [mismatch] = check_file(path, [expected])
    last = (len(sizes), sum(sizes[:-1]), sizes[-1])
    assert mismatch.damaged == (last,)
    assert str(mismatch).endswith(f"; damaged parts: {len(sizes)}")

    unknown = composite(name, parts, part_sizes=tuple(sizes))
    [mismatch] = check_file(path, [unknown])
    assert mismatch.damaged == ()


@pytest.mark.parametrize(
    ("size", "count", "known", "lengths"),
    [
        (10, 2, {"part_size": 5}, [5, 5]),
        (11, 3, {"part_size": 5}, [5, 5, 1]),
        (11, 2, {"part_size": 5}, None),
        (11, 2, {"part_sizes": (4, 7)}, [4, 7]),
        (11, 2, {"part_sizes": (4, 6)}, None),
        (11, 2, {}, None),
        (11, 1, {"part_size": 11}, [11]),
    ],
)
def test_the_parts_must_make_up_the_object(
    size: int, count: int, known: dict[str, object], lengths: list[int] | None, tmp_path: Path
) -> None:
    expected = composite("CRC32", [b"x"] * count, **known)
    layout = expected.layout(size)
    assert (None if layout is None else [part.length for part in layout]) == lengths
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    if lengths is None:
        with pytest.raises(ValueError, match=r"not the parts"):
            check_file(path, [expected])


@every_crc
@given(
    data=st.binary(min_size=2, max_size=200),
    borders=st.lists(st.integers(0, 200), max_size=6),
    flip=st.none() | st.integers(0, 199),
)
def test_ranges_stand_for_the_object(
    name: str, data: bytes, borders: list[int], flip: int | None
) -> None:
    half = len(data) // 2
    parts = [data[:half], data[half:]]
    checksums = tuple(b64(SUMS[name](part)) for part in parts)
    got = bytearray(data)
    if flip is not None:
        got[flip % len(data)] ^= 1
    cuts = sorted({0, half, len(data), *(border % len(data) for border in borders)})
    ranges = [(b - a, CRCS[name].extend(0, got[a:b])) for a, b in pairwise(cuts)]

    by_parts = composite(name, parts, part_sizes=(half, len(data) - half), parts=checksums)
    for expected in (whole(name, data), by_parts):
        assert can_check_ranges(expected, [length for length, _ in ranges])
        mismatch = check_ranges(expected, ranges)
        assert (mismatch is None) == (flip is None)
        if mismatch and expected.composite and flip is not None:
            assert [part.number for part in mismatch.damaged] == [1 + (flip % len(data) >= half)]


def test_ranges_across_the_borders_of_parts_cannot_tell() -> None:
    expected = composite("CRC32C", [b"12345", b"6789"], part_size=5)
    crc = CRCS["CRC32C"]
    ranges = [(4, crc.extend(0, b"1234")), (5, crc.extend(0, b"56789"))]
    assert not can_check_ranges(expected, [4, 5])
    with pytest.raises(ValueError, match="do not fit"):
        check_ranges(expected, ranges)
    assert check_ranges(whole("CRC32C", NINE), ranges) is None


def test_ranges_tell_nothing_of_digests() -> None:
    assert not can_check_ranges(whole("SHA256", NINE), [9])


@pytest.mark.parametrize(
    ("etag", "is_md5"),
    [
        ("9e107d9d372bb6826bd81d3542a419d6", True),
        ('"9e107d9d372bb6826bd81d3542a419d6"', True),
        ("9e107d9d372bb6826bd81d3542a419d6-2", False),
        ("9e107d9d372bb6826bd81d3542a419d", False),
        ("0x8D9C4F5E", False),
        ("", False),
    ],
)
def test_only_some_etags_are_md5s(etag: str, *, is_md5: bool) -> None:
    assert (md5_etag(etag) is not None) is is_md5
