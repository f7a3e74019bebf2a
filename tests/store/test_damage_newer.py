"""Damage to the state of a newer downloader: its additions are kept, or reported as lost."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.store import Store

from .newer import FIELDS, NEWER, added, leave_newer_state
from .test_damage import check_damaged, opened

LEFT_OUT = "what a newer downloader had added"


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state of a newer downloader with rows in all tables."""
    await leave_newer_state(tmp_path / "whole")
    return tmp_path / "whole"


def overwrite(directory: Path, at: int, content: bytes) -> None:
    with (directory / "state.db").open("r+b") as file:
        file.seek(at)
        file.write(content)


def page_of(directory: Path, table: str) -> int:
    """Return the position of the first page of a table in the file."""
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?"
        return (int(connection.execute(query, (table,)).fetchone()[0]) - 1) * 4_096


def times_damaged(directory: Path) -> int:
    return len(list(directory.glob("state.damaged-*.db")))


def sealed(row: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a row that have a checksum: fields of JSON texts."""
    return {name: row[name] for name in row if name in FIELDS or name.endswith(".more")}


async def test_no_flipped_bit_loses_additions_in_silence(state: Path, tmp_path: Path) -> None:
    whole, _ = await opened(state)
    before = added(state)
    content = (state / "state.db").read_bytes()
    chosen = random.Random(7)
    bits = {
        *range(60 * 8, 64 * 8),
        *chosen.sample(range(100 * 8, 4_096 * 8), 40),
        *chosen.sample(range(4_096 * 8, len(content) * 8), 100),
    }
    told = refused = 0
    for bit in bits:
        what = f"bit {bit % 8} of byte {bit // 8}"
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        directory = tmp_path / str(bit)
        directory.mkdir()
        (directory / "state.db").write_bytes(flipped)
        try:
            said = await check_damaged(whole, directory, what)
        except DownloaderError as error:
            refused += error.code is ErrorCode.INVALID_STATE
            continue
        told += said is not None
        if LEFT_OUT not in str(said):
            newer = Store(directory, NEWER)
            said = await newer.damage()
            await newer.close()
            after = added(directory)
            assert said or after.keys() == before.keys(), f"{what}: lost in silence"
            false = {n for n in after.keys() & before if sealed(after[n]) != sealed(before[n])}
            assert not false, f"{what}: false {false}"
    assert told > 30
    assert refused < 10


@pytest.mark.parametrize("table", ["downloads", "files", "models", "jobs", "marks", "log"])
async def test_additions_outlive_the_damage_of_one_table(state: Path, table: str) -> None:
    before = added(state)
    overwrite(state, page_of(state, table), bytes(4_096))
    _, said = await opened(state)
    assert table in str(said)
    assert LEFT_OUT not in str(said)
    await Store(state, NEWER).close()
    assert times_damaged(state) == 1
    after = added(state)
    lost = {name.split()[0] for name in before.keys() - after.keys()}
    assert lost <= {table, "notes"} | ({"files", "jobs"} if table == "downloads" else set())
    assert not {name for name in after if name in before and after[name] != before[name]}


async def test_without_its_first_page_additions_are_told_lost(state: Path) -> None:
    whole, _ = await opened(state)
    overwrite(state, 0, bytes(4_096))
    found, said = await opened(state)
    assert LEFT_OUT in str(said)
    assert found["downloads"] == whole["downloads"]
    assert found["files"] == whole["files"]
    [report] = state.glob("state.damaged-*.lost.jsonl")
    lost = [msgspec.json.decode(line) for line in report.read_bytes().splitlines()]
    [published] = [
        line["row"] for line in lost if line["row"].get("file") == "/data/d-5/weights-1.bin"
    ]
    assert "by /data/d-5/weights-1.bin" in published.values()


async def test_a_name_that_cannot_be_read_leaves_additions_out(state: Path) -> None:
    content = (state / "state.db").read_bytes()
    at = content.index(b"CREATE TABLE jobs")
    overwrite(state, at, b"CREATE TABLE \xff")
    _, said = await opened(state)
    assert LEFT_OUT in str(said)
    await Store(state, NEWER).close()
    assert "jobs job-d-1" not in added(state)


@pytest.mark.parametrize("channel", [b"\xf2esponses", b"rmsponses"])
async def test_a_damaged_channel_costs_its_message_alone(state: Path, channel: bytes) -> None:
    whole, _ = await opened(state)
    with closing(sqlite3.connect(state / "state.db")) as connection:
        damage = "UPDATE outbox SET channel = CAST(? AS TEXT) WHERE number = 2"
        connection.execute(damage, (channel,))
        connection.commit()
    found, said = await opened(state)
    assert "lost: 1 unsent message;" in str(said)
    assert whole["messages"].keys() - found["messages"].keys() == {2}
    assert {**found, "messages": {}} == {**whole, "messages": {}}


async def test_damage_that_hides_what_is_allowed_is_refused(state: Path) -> None:
    overwrite(state, page_of(state, "format"), bytes(4_096))
    with pytest.raises(DownloaderError, match="damage hides whether") as caught:
        Store(state)
    assert caught.value.code is ErrorCode.INVALID_STATE
    assert not times_damaged(state)
    await Store(state, NEWER).close()
    assert times_damaged(state) == 1
