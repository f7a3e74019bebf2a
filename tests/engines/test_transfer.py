"""Files in parts arrive with interruptions, on disks that lose data."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest

from s3downloader.core.checksums import CRCS, DEFAULT_CRC, Mismatch, Part
from s3downloader.core.records import FileRecord
from s3downloader.engines.disk import Disk
from s3downloader.engines.ranged.parts import Layout, layout_of
from s3downloader.engines.ranged.transfer import Transfer, begin_or_continue

from .losing_disk import LosingDisk
from .test_journal import rewrite_head

SIZE = 1_000
CONTENT = random.Random(1).randbytes(SIZE)
FILE = FileRecord(1, "model", "model", SIZE, "etag")
LAYOUT = layout_of(SIZE, part_size=300)
CRC32C = CRCS["CRC32C"]


@contextlib.contextmanager
def transfer(
    folder: Path,
    file: FileRecord = FILE,
    layout: Layout = LAYOUT,
    disk: Disk | None = None,
    listed: str | None = None,
) -> Iterator[Transfer]:
    """Open the transfer of a new fetch in `folder`."""
    path, journal = folder / "1.part", folder / "1.journal"
    disk = disk or Disk()
    found = begin_or_continue(
        file, path, journal, listed=listed, layout=layout, crc=CRC32C, disk=disk
    )
    with contextlib.closing(found):
        yield found


def fetch(transfer: Transfer, most: int | None = None, content: bytes = CONTENT) -> int:
    """Fetch missing bytes, at most `most` of each part; return their number."""
    fetched = 0
    while (index := transfer.claim()) is not None:
        start, end = transfer.missing(index)
        end = end if most is None else min(end, start + most)
        for at in range(start, end, 64):
            transfer.write(index, content[at : min(at + 64, end)])
        fetched += end - start
    return fetched


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([CONTENT[at] ^ 1]))


def mismatch(*damaged: Part) -> Mismatch:
    return Mismatch(algorithm="CRC32C", wanted="a", got="b", damaged=damaged)


def test_a_file_arrives_in_parts(tmp_path: Path) -> None:
    with transfer(tmp_path) as whole:
        assert whole.parts_waiting == 4
        assert fetch(whole) == SIZE
        assert whole.bytes_done == SIZE
        crcs = [CRC32C.extend(0, CONTENT[at : at + 300]) for at in range(0, SIZE, 300)]
        assert whole.ranges == list(zip([300, 300, 300, 100], crcs, strict=True))
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_it_goes_on_where_it_was_left(tmp_path: Path) -> None:
    fetched = 0
    for _ in range(4):
        with transfer(tmp_path) as some:
            assert some.bytes_done == fetched
            fetched += fetch(some, 90)
    assert fetched == SIZE
    with transfer(tmp_path) as whole:
        assert whole.claim() is None
        assert whole.ranges[0] == (300, CRC32C.extend(0, CONTENT[:300]))
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_it_continues_with_the_parts_and_crc_it_began_with(tmp_path: Path) -> None:
    with transfer(tmp_path) as some:
        fetch(some, 90)
    path, journal = tmp_path / "1.part", tmp_path / "1.journal"
    again = begin_or_continue(
        FILE, path, journal, layout=layout_of(SIZE, part_size=77), crc=DEFAULT_CRC, disk=Disk()
    )
    with contextlib.closing(again):
        assert (again.layout, again.crc) == (LAYOUT, CRC32C)
        assert fetch(again) == SIZE - 4 * 90
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "change", [{"validator": "another"}, {"size": SIZE + 1}, {"size": SIZE - 1}]
)
def test_another_version_begins_anew(tmp_path: Path, change: dict[str, str | int]) -> None:
    with transfer(tmp_path) as old:
        fetch(old, content=bytes(SIZE))
    file = msgspec.structs.replace(FILE, **change)
    content = random.Random(2).randbytes(file.size)
    with transfer(tmp_path, file, layout_of(file.size, part_size=400)) as new:
        assert fetch(new, content=content) == file.size
    assert (tmp_path / "1.part").read_bytes() == content


def test_with_a_journal_of_a_later_version_it_begins_anew(tmp_path: Path) -> None:
    with transfer(tmp_path) as later:
        fetch(later, 90, content=bytes(SIZE))
    rewrite_head(tmp_path / "1.journal", version=2)
    with transfer(tmp_path) as some:
        assert some.bytes_done == 0
        assert fetch(some) == SIZE
    assert (tmp_path / "1.part").read_bytes() == CONTENT


@pytest.mark.parametrize("most", [None, 0, 1, 90, 300])
@pytest.mark.parametrize("step", [1, 64, 299, 1_000])
def test_of_a_whole_answer_only_what_is_missing_is_written(
    tmp_path: Path, most: int | None, step: int
) -> None:
    with transfer(tmp_path) as some:
        if most:
            fetch(some, most)
        there = some.bytes_done
        for at in range(0, SIZE, step):
            some.write_through(at, memoryview(CONTENT)[at : at + step])
            assert some.bytes_done >= there
        assert some.is_complete
        assert [crc for _, crc in some.ranges] == [
            CRC32C.extend(0, CONTENT[at : at + 300]) for at in range(0, SIZE, 300)
        ]
    assert (tmp_path / "1.part").read_bytes() == CONTENT


@pytest.mark.parametrize("power", [True, False])
def test_what_was_rewound_is_not_there_any_more(tmp_path: Path, power: bool) -> None:
    """Nor after a loss of power, although it had been synced."""
    disk = LosingDisk()
    with transfer(tmp_path, disk=disk) as some:
        fetch(some, 90)
        some.sync()
        before = some.states()
        fetch_more = [some.missing(index) for index in range(4)]
        for index, (start, _) in enumerate(fetch_more):
            some.write(index, bytes(10))
            assert start == index * 300 + 90
        some.sync()
        some.rewind(before)
        assert some.bytes_done == 4 * 90
    disk = disk.lose_power() if power else disk
    with transfer(tmp_path, disk=disk) as again:
        assert again.bytes_done == 4 * 90
        assert fetch(again) == SIZE - 4 * 90
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_another_own_validator_begins_anew(tmp_path: Path) -> None:
    """The listing is the same as before, but the object has another validator."""
    own = msgspec.structs.replace(FILE, validator="own")
    with transfer(tmp_path, own, listed="etag") as some:
        fetch(some, content=bytes(SIZE))
    other = msgspec.structs.replace(FILE, validator="other")
    with transfer(tmp_path, other, listed="etag") as again:
        assert fetch(again) == SIZE
    with transfer(tmp_path, other, listed="etag") as same:
        assert same.is_complete


def test_without_a_validator_every_transfer_begins_anew(tmp_path: Path) -> None:
    unknown = msgspec.structs.replace(FILE, validator="")
    with transfer(tmp_path, unknown) as some:
        fetch(some)
    with transfer(tmp_path, unknown) as again:
        assert again.bytes_done == 0


def test_without_its_data_a_journal_counts_for_nothing(tmp_path: Path) -> None:
    with transfer(tmp_path) as some:
        fetch(some)
    (tmp_path / "1.part").unlink()
    with transfer(tmp_path) as again:
        assert fetch(again) == SIZE


def test_without_its_journal_data_counts_for_nothing(tmp_path: Path) -> None:
    with transfer(tmp_path) as some:
        fetch(some)
    (tmp_path / "1.journal").unlink()
    with transfer(tmp_path) as again:
        assert fetch(again) == SIZE


def test_a_file_that_was_cut_keeps_its_whole_parts(tmp_path: Path) -> None:
    with transfer(tmp_path) as some:
        fetch(some)
    os.truncate(tmp_path / "1.part", 650)
    with transfer(tmp_path) as again:
        assert fetch(again) == 400
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_a_file_that_grew_is_cut_to_its_size(tmp_path: Path) -> None:
    with transfer(tmp_path) as some:
        fetch(some)
    with (tmp_path / "1.part").open("ab") as file:
        file.write(b"more")
    with transfer(tmp_path) as again:
        assert fetch(again) == 0
    assert (tmp_path / "1.part").read_bytes() == CONTENT


@pytest.mark.parametrize("at", [None, 350])
def test_a_file_that_was_replaced_is_checked_part_by_part(tmp_path: Path, at: int | None) -> None:
    with transfer(tmp_path) as some:
        fetch(some, 200)
    copy = tmp_path / "copy"
    copy.write_bytes((tmp_path / "1.part").read_bytes())
    if at is not None:
        damage(copy, at)
    copy.rename(tmp_path / "1.part")
    with transfer(tmp_path) as again:
        assert fetch(again) == SIZE - 700 + (0 if at is None else 200)
    assert (tmp_path / "1.part").read_bytes() == CONTENT


class OneInode(Disk):
    """A disk that gives a new file the inode of the deleted one, as ext4 often does.

    It simulates the end of the process while it allocates the new file.
    """

    def allocate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)
        raise KeyboardInterrupt


def test_a_death_at_a_new_beginning_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """Even if the new, empty file looks to the old journal like the old one."""
    with transfer(tmp_path) as some:
        fetch(some)
    data = tmp_path / "1.part"
    hidden = data.rename(tmp_path / "hidden")
    with pytest.raises(KeyboardInterrupt), transfer(tmp_path, disk=OneInode()):
        pass
    os.truncate(hidden, 0)
    os.truncate(hidden, SIZE)
    hidden.rename(data)
    with transfer(tmp_path) as again:
        assert fetch(again) == SIZE
    assert data.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("blamed", "again"),
    [
        pytest.param(Part(2, 300, 300), 300, id="a part"),
        pytest.param(Part(2, 600, 400), 400, id="two parts"),
        pytest.param(Part(2, 310, 10), 300, id="within a part"),
        pytest.param(Part(2, 500, 200), 600, id="across a border"),
        pytest.param(Part(1, 0, 1_000), 1_000, id="all"),
    ],
)
def test_parts_that_are_blamed_are_fetched_again(tmp_path: Path, blamed: Part, again: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[blamed.offset] ^= 1
    damaged[blamed.offset + blamed.length - 1] ^= 1
    with transfer(tmp_path) as mended:
        fetch(mended, content=bytes(damaged))
        assert mended.reset_damaged(mismatch(blamed)) == again
        assert fetch(mended) == again
        assert mended.bytes_done == SIZE
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_where_nothing_is_blamed_the_disk_is_read(tmp_path: Path) -> None:
    with transfer(tmp_path) as mended:
        fetch(mended)
        damage(tmp_path / "1.part", 950)
        assert mended.reset_damaged(mismatch()) == 100
        assert fetch(mended) == 100
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_where_nobody_knows_the_damage_all_is_fetched_again(tmp_path: Path) -> None:
    with transfer(tmp_path) as mended:
        fetch(mended, content=bytes(SIZE))
        assert mended.reset_damaged(mismatch()) == SIZE
        assert fetch(mended) == SIZE
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_damage_is_not_forgotten_with_the_process_or_the_power(tmp_path: Path) -> None:
    with transfer(tmp_path) as mended:
        fetch(mended, content=bytes(SIZE))
        mended.sync()
        mended.reset_damaged(mismatch(Part(2, 300, 300)))
    with transfer(tmp_path) as same_boot:
        assert same_boot.bytes_done == 700
    with transfer(tmp_path, disk=AnotherBoot()) as another_boot:
        assert another_boot.bytes_done == 700


def test_mending_tells_no_more_than_was_synced(tmp_path: Path) -> None:
    disk = LosingDisk()
    with transfer(tmp_path, disk=disk) as mended:
        fetch(mended, 100)
        mended.sync()
    with transfer(tmp_path, disk=disk) as mended:
        fetch(mended)
        mended.reset_damaged(mismatch(Part(2, 300, 300)))
        disk = disk.lose_power()
    with transfer(tmp_path, disk=disk) as again:
        assert fetch(again) == SIZE - 300
    assert (tmp_path / "1.part").read_bytes() == CONTENT


@pytest.mark.parametrize("earlier", [True, False])
def test_what_could_not_be_synced_does_not_settle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    """Not even after a later sync, which would not report the failure of an earlier one."""

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk = Disk()
    with transfer(tmp_path, disk=disk) as some:
        fetch(some, 100)
        some.sync()
    with transfer(tmp_path, disk=disk) as some:
        fetch(some)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "sync", fail)
            with pytest.raises(OSError, match="Input/output error"):
                some.sync() if earlier else some.finish()
        with pytest.raises(OSError, match="Input/output error"):
            some.finish()
    with transfer(tmp_path, disk=disk) as again:
        assert fetch(again) == SIZE - 4 * 100
        again.finish()
    with transfer(tmp_path, disk=AnotherBoot()) as settled:
        assert settled.is_complete


class AnotherBoot(Disk):
    @property
    def boot_id(self) -> str:
        return "00000000-0000-4000-8000-000000000001"


class HeldDisk(Disk):
    """A disk whose next sync the test holds."""

    def __init__(self) -> None:
        self.held = Event()
        self.let_go = Event()
        self.holds = False

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        if self.holds:
            self.holds = False
            self.held.set()
            assert self.let_go.wait(10)


def test_a_sync_that_was_under_way_does_not_bring_damage_back(tmp_path: Path) -> None:
    disk = HeldDisk()
    with transfer(tmp_path, disk=disk) as mended:
        fetch(mended, content=bytes(SIZE))
        disk.holds = True
        syncing = Thread(target=mended.sync)
        syncing.start()
        assert disk.held.wait(10)
        mending = Thread(target=mended.reset_damaged, args=[mismatch(Part(2, 300, 300))])
        mending.start()
        mending.join(0.1)  # it may wait for the sync, or be faster
        disk.let_go.set()
        syncing.join()
        mending.join()
    with transfer(tmp_path, disk=AnotherBoot()) as another_boot:
        assert another_boot.bytes_done == 700


def test_closing_waits_for_a_sync_and_may_be_repeated(tmp_path: Path) -> None:
    disk = HeldDisk()
    with transfer(tmp_path, disk=disk) as closed:
        fetch(closed)
        disk.holds = True
        syncing = Thread(target=closed.sync)
        syncing.start()
        assert disk.held.wait(10)
        closing = Thread(target=closed.close)
        closing.start()
        closing.join(0.1)
        disk.let_go.set()
        syncing.join()
        closing.join()
        with (tmp_path / "another").open(
            "wb"
        ) as another:  # it gets a descriptor that has become free
            closed.sync()
            closed.close()
            another.write(b"still open")
    assert (tmp_path / "another").read_bytes() == b"still open"
    with transfer(tmp_path, disk=AnotherBoot()) as another_boot:
        assert another_boot.bytes_done == SIZE


class FailingDisk(Disk):
    """A disk that loses writes, and reports it only once, as Linux does."""

    fails = False

    def sync(self, descriptor: int) -> None:
        if self.fails:
            self.fails = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)


def test_what_a_disk_did_not_take_is_not_trusted(tmp_path: Path) -> None:
    """Linux reports pages that it could not write once, and drops them. Source: fsync(2)."""
    disk = FailingDisk()
    with transfer(tmp_path, disk=disk) as some:
        fetch(some, 100)
        some.sync()
    with transfer(tmp_path, disk=disk) as failing:
        fetch(failing, 100)
        disk.fails = True
        with pytest.raises(OSError, match="Input/output error"):
            failing.sync()
        with contextlib.suppress(OSError):
            failing.sync()
    with (tmp_path / "1.part").open(
        "r+b"
    ) as file:  # the dropped pages, which were written since the last sync
        for start in range(0, SIZE, 300):
            file.seek(start + 100)
            file.write(bytes(min(100, SIZE - start - 100)))
    with transfer(tmp_path) as again:
        fetch(again)
    assert (tmp_path / "1.part").read_bytes() == CONTENT


def test_where_there_is_no_space_to_begin_nothing_is_taken(tmp_path: Path) -> None:
    class FullDisk(Disk):
        def allocate(self, descriptor: int, size: int) -> None:
            super().allocate(descriptor, size // 2)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"), transfer(tmp_path, disk=FullDisk()):
        pass
    assert list(tmp_path.iterdir()) == []
    with transfer(tmp_path) as whole:
        assert fetch(whole) == SIZE


@pytest.mark.parametrize("length", [10, (8 << 20) + 5])
def test_reading_back_takes_no_more_memory_than_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    read = os.pread
    longest = 0

    def spy(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal longest
        data = read(descriptor, size, offset)
        longest = max(longest, len(data))
        return data

    content = bytes(length)
    file = msgspec.structs.replace(FILE, size=length)
    with transfer(tmp_path, file, layout_of(length)) as whole:
        for index in iter(whole.claim, None):
            whole.write(index, content[slice(*whole.missing(index))])
        monkeypatch.setattr(os, "pread", spy)
        damage(tmp_path / "1.part", 0)
        assert whole.reset_damaged(mismatch()) == min(length, 8 << 20)
    assert longest <= 1 << 20
