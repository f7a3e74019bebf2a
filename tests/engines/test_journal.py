"""The journal after the end of the process, a loss of power, or damage."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3downloader.engines.disk import Disk
from s3downloader.engines.ranged.journal import Head, Journal
from s3downloader.engines.ranged.parts import PartState, layout_of

from .support import names

DESCRIPTORS = Path("/proc/self/fd")
LAYOUT = layout_of(1_000, part_size=300)
HEAD = Head("etag", LAYOUT, "CRC64NVME", 7)
NOTHING = [PartState()] * 4
FIRST = [PartState(300, 1), PartState(20, 2), PartState(), PartState(100, (1 << 64) - 1)]
THEN = [PartState(300, 1), PartState(40, 3), PartState(60, 5), PartState(100, (1 << 64) - 1)]


class RebootedDisk(Disk):
    """The same disk after a reboot."""

    @property
    def boot_id(self) -> str:
        return "00000000-0000-4000-8000-000000000001"


@contextlib.contextmanager
def created(path: Path, head: Head = HEAD) -> Iterator[Journal]:
    journal = Journal.create(path, head, Disk())
    with contextlib.closing(journal):
        yield journal


def opened(path: Path, disk: Disk | None = None) -> tuple[Head, list[PartState]] | None:
    """Return what a starting daemon reads from a journal."""
    found = Journal.open(path, disk or Disk())
    if found is None:
        return None
    with contextlib.closing(found[0]):
        return found[0].head, found[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "1.journal"


def test_the_head_and_what_was_recorded_come_back(path: Path) -> None:
    with created(path) as journal:
        assert opened(path) == (HEAD, NOTHING)
        for index, state in enumerate(FIRST):
            journal.record(index, state)
        assert opened(path) == (HEAD, FIRST)


def test_what_was_recorded_counts_under_its_boot_alone(path: Path) -> None:
    with created(path) as journal:
        for index, state in enumerate(FIRST):
            journal.record(index, state)
    assert opened(path, RebootedDisk()) == (HEAD, NOTHING)


def test_what_was_committed_outlives_the_boot(path: Path) -> None:
    with created(path) as journal:
        journal.commit(FIRST)
        journal.record(1, THEN[1])
    assert opened(path, RebootedDisk()) == (HEAD, FIRST)


def test_records_of_a_later_boot_go_on_from_what_was_committed(path: Path) -> None:
    with created(path) as journal:
        journal.commit(FIRST)
        journal.record(2, PartState(299, 9))
    found = Journal.open(path, RebootedDisk())
    assert found
    with contextlib.closing(found[0]) as journal:
        journal.record(1, THEN[1])
        assert opened(path, RebootedDisk()) == (HEAD, [FIRST[0], THEN[1], *FIRST[2:]])
        journal.commit(THEN)
    assert opened(path) == (HEAD, [*THEN[:2], PartState(299, 9), THEN[3]])


def test_the_older_copy_serves_where_the_newer_is_torn(path: Path) -> None:
    with created(path) as journal:
        journal.commit(FIRST)
        sound = path.read_bytes()
        journal.commit(THEN)
    written = path.read_bytes()
    newer = [at for at in range(len(sound)) if sound[at] != written[at]]
    for torn_at in range(newer[0] + 1, newer[-1] + 1):
        path.write_bytes(written[:torn_at] + sound[torn_at:])
        assert opened(path, RebootedDisk()) == (HEAD, FIRST)


@pytest.mark.parametrize("bit", [32, 40, 63])
def test_a_flipped_bit_makes_no_older_copy_the_newer(path: Path, bit: int) -> None:
    with created(path) as journal:
        journal.commit(THEN)
        journal.commit(FIRST)
    content = bytearray(path.read_bytes())
    older = 4_096 + len(LAYOUT) * 32  # after the head and the slots
    content[older + bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    assert opened(path, RebootedDisk()) == (HEAD, FIRST)


def test_commits_after_a_torn_one_are_read_back(path: Path) -> None:
    with created(path) as journal:
        journal.commit(FIRST)
        sound = path.read_bytes()
        journal.commit(THEN)
    written = path.read_bytes()
    torn = next(at for at in range(len(sound)) if sound[at] != written[at])
    path.write_bytes(written[: torn + 1] + sound[torn + 1 :])
    found = Journal.open(path, RebootedDisk())
    assert found
    with contextlib.closing(found[0]) as journal:
        journal.commit(THEN)
        journal.commit(THEN)
    assert opened(path, RebootedDisk()) == (HEAD, THEN)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_damaged_bit_tells_more_than_was_recorded(path: Path, data: st.DataObject) -> None:
    with created(path) as journal:
        journal.commit(FIRST)
        for index, state in enumerate(THEN):
            journal.record(index, state)
    content = bytearray(path.read_bytes())
    interesting = [at for at, byte in enumerate(content) if byte]
    at = data.draw(st.sampled_from(interesting) | st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    for disk in (Disk(), RebootedDisk()):
        found = opened(path, disk)
        if found is not None:
            head, states = found
            assert head == HEAD
            for state, *recorded in zip(states, NOTHING, FIRST, THEN, strict=True):
                assert state in recorded


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=6_000))
def test_no_garbage_is_taken_for_a_journal(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    assert opened(path) is None


@pytest.mark.parametrize("length", [0, 1, 4_095, 4_096, 4_100, 4_300])
def test_a_journal_that_was_cut_tells_nothing(path: Path, length: int) -> None:
    with created(path) as journal:
        journal.commit(FIRST)
        journal.record(1, THEN[1])
    os.truncate(path, length)
    assert opened(path) is None


def test_a_part_longer_than_it_can_be_counts_as_missing(path: Path) -> None:
    with created(path) as journal:
        journal.record(0, PartState(301, 1))
        journal.commit([PartState(), PartState(), PartState(301, 1), PartState(101, 1)])
    assert opened(path) == (HEAD, NOTHING)


def test_a_missing_journal_tells_nothing(path: Path) -> None:
    assert Journal.open(path, Disk()) is None


class FullDisk(Disk):
    """A disk without space for a new file."""

    def allocate(self, descriptor: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_and_leaves_no_descriptor_open(path: Path) -> None:
    before = names(DESCRIPTORS)
    with pytest.raises(OSError, match="No space left"):
        Journal.create(path, HEAD, FullDisk())
    assert names(DESCRIPTORS) == before
    assert opened(path) is None


@pytest.mark.parametrize(
    ("etag", "own", "listed", "continues"),
    [
        ("a", "", "a", True),
        ("W/a", "", "a", True),
        ("a", "", "b", False),
        ("a", "own", "a", True),
        ("a", "own", "own", False),
        ("", "own", "", True),
        ("", "", "", False),
        ("", "own", "a", False),
        ("a", "", "", False),
    ],
)
def test_what_has_no_validator_is_not_continued(
    etag: str, own: str, listed: str, continues: bool
) -> None:
    head = Head(etag, LAYOUT, "CRC64NVME", 7, own=own)
    assert head.continues(listed) is continues


def rewrite_head(path: Path, *without: str, **fields: object) -> bytes:
    """Write a head of another version of the downloader; return it."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:4], "little")
    head = msgspec.json.decode(raw[8 : 8 + length]) | fields
    encoded = msgspec.json.encode({k: v for k, v in head.items() if k not in without})
    prefix = struct.pack("<II", len(encoded), zlib.crc32(encoded))
    start = (prefix + encoded).ljust(4_096, b"\0")
    path.write_bytes(start + raw[4_096:])
    return start


def test_a_head_of_an_earlier_version_still_tells_its_file(path: Path) -> None:
    """That version knew only the validator of the listing."""
    with created(path):
        pass
    rewrite_head(path, "own")
    assert opened(path) == (HEAD, NOTHING)


def test_what_a_later_version_adds_to_a_head_stays(path: Path) -> None:
    with created(path):
        pass
    start = rewrite_head(path, generation=17)
    assert opened(path) == (HEAD, NOTHING)
    found = Journal.open(path, Disk())
    assert found
    with contextlib.closing(found[0]) as journal:
        for index, state in enumerate(FIRST):
            journal.record(index, state)
        journal.commit(FIRST)
    assert path.read_bytes()[:4_096] == start
    assert opened(path, RebootedDisk()) == (HEAD, FIRST)


@pytest.mark.parametrize("change", [{"version": 2}, {"crc": "CRC64"}], ids=str)
def test_a_head_that_may_not_be_passed_over_tells_nothing(
    path: Path, change: dict[str, object]
) -> None:
    with created(path) as journal:
        journal.commit(FIRST)
    rewrite_head(path, **change)
    assert opened(path) is None
