"""A load names its objects, and checks whether they have arrived."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.loads import Load

ONE = Load("one", "an object", (3,))
TWO = Load("two", "two objects", (3, 5))


def arrive(place: Path) -> list[str]:
    """Write the files of TWO to `place`; return their SHA-256."""
    (place / "000000").write_bytes(b"abc")
    (place / "000001").write_bytes(b"defgh")
    return [hashlib.sha256(data).hexdigest() for data in (b"abc", b"defgh")]


def test_one_object_is_named_by_its_key() -> None:
    assert (ONE.key, ONE.pattern) == ("one/000000", "one/000000")


def test_several_are_named_by_their_prefix() -> None:
    assert TWO.keys == ["two/000000", "two/000001"]
    assert (TWO.key, TWO.pattern) == ("two/", "two/*")


def test_what_arrived_whole_is_accepted_and_emptied(tmp_path: Path) -> None:
    digests = arrive(tmp_path)
    TWO.check_sizes(tmp_path)
    TWO.check_digests(tmp_path, digests)
    TWO.empty(tmp_path)
    assert [(tmp_path / name).stat().st_size for name in ("000000", "000001")] == [0, 0]


@pytest.mark.parametrize("name", ["000001", "000002"])
def test_a_file_of_another_size_or_too_many_is_refused(tmp_path: Path, name: str) -> None:
    arrive(tmp_path)
    (tmp_path / name).write_bytes(b"more than there was")
    with pytest.raises(AssertionError, match="are not those of the load"):
        TWO.check_sizes(tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    digests = arrive(tmp_path)
    (tmp_path / "000001").write_bytes(b"defgH")
    with pytest.raises(AssertionError, match="two/000001 is damaged"):
        TWO.check_digests(tmp_path, digests)
