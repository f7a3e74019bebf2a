"""A damaged state opens; nothing wrong is read from it, and losses are reported."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.objects import ObjectRef
from s3downloader.core.records import State
from s3downloader.store import Change, Item, Store
from s3downloader.store.migrations import schema

from .full_state import a_download, read_everything, write_everything
from .test_migration import write_state

Everything = dict[str, dict[Any, Any]]

COMPARED = ("files", "published")
"""Tables whose rows have no checksum, because the next plan compares them with the source."""


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state with rows in all tables."""
    await write_everything(tmp_path / "whole")
    return tmp_path / "whole"


async def leave_state(directory: Path, version: int) -> None:
    """Write a state of `version`, which is migrated when it is opened."""
    if version == schema().version:
        await write_everything(directory)
    else:
        write_state(directory, version)


async def opened(directory: Path) -> tuple[Everything, str | None]:
    """Return the contents of a state, and the damage that is reported."""
    store = Store(directory)
    try:
        return await read_everything(store), await store.damage()
    finally:
        await store.close()


async def check_damaged(whole: Everything, directory: Path, what: str) -> str | None:
    """Open a damaged state; return what is reported."""
    found, message = await opened(directory)
    for table, rows in whole.items():
        there = found[table]
        assert message or len(there) == len(rows), f"{what}: lost in silence: {rows.keys() - there}"
        if table not in COMPARED:
            false = {key: row for key, row in there.items() if row != rows.get(key)}
            assert not false, f"{what}: false {table}: {false}"
    again, _ = await opened(directory)
    assert again == found, f"{what}: a second start finds something else"
    return message


def bits_of(content: bytes) -> Iterator[int]:
    """Yield the positions of bits to flip: in the header, in the schema, and all over the file."""
    chosen = random.Random(7)
    for at in (18, 60):  # the format that SQLite writes, and the version of the state
        yield from range(at * 8, (at + 4) * 8)
    yield from chosen.sample(range(100 * 8), 60)
    yield from chosen.sample(range(100 * 8, 4_096 * 8), 60)
    yield from chosen.sample(range(4_096 * 8, len(content) * 8), 250)


async def test_no_flipped_bit_ends_it_or_is_believed(state: Path, tmp_path: Path) -> None:
    whole, _ = await opened(state)
    content = (state / "state.db").read_bytes()
    lost = 0
    for bit in set(bits_of(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        directory = tmp_path / str(bit)
        directory.mkdir()
        (directory / "state.db").write_bytes(flipped)
        lost += (
            await check_damaged(whole, directory, f"bit {bit % 8} of byte {bit // 8}") is not None
        )
    assert lost > 60


@pytest.mark.parametrize("length", [0, 1, 99, 100, 4_095, 4_096, 9_000, 30_000, 60_000])
async def test_what_a_truncated_file_has_goes_on(state: Path, length: int) -> None:
    whole, _ = await opened(state)
    os.truncate(state / "state.db", length)
    message = await check_damaged(whole, state, f"{length} bytes")
    assert message is not None
    assert "lost" in message


async def test_a_state_that_never_was_is_no_damage(tmp_path: Path) -> None:
    assert (await opened(tmp_path / "new"))[1] is None


@pytest.mark.parametrize(
    "table",
    ["downloads", "models", "versions", "answers", "messages", "commands", "notes", "files"],
)
async def test_tables_outlive_each_others_damage(state: Path, table: str) -> None:
    whole, _ = await opened(state)
    with closing(sqlite3.connect(state / "state.db")) as connection:
        name = {"messages": "outbox", "commands": "inbox"}.get(table, table)
        query = "SELECT rootpage FROM sqlite_schema WHERE type = 'table' AND name = ?"
        (root,) = connection.execute(query, (name,)).fetchone()
    with (state / "state.db").open("r+b") as file:
        file.seek((root - 1) * 4_096)
        file.write(bytes(4_096))
    found, message = await opened(state)
    assert message is not None
    gone = {table, "notes"} if table == "models" else {table}
    gone |= {"files"} if table == "downloads" else set()
    assert {name for name in whole if found[name] != whole[name]} == gone


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("notes", b"\xeeotes"),
        ("models", b"mndels"),
        ("sqlite_sequence", b"sqlite_sequenc\xe5"),
        ("sqlite_sequence", b"s\xf1lite_sequence"),
    ],
)
@pytest.mark.parametrize("version", [3, 4])
async def test_a_damaged_name_of_a_table_loses_nothing(
    tmp_path: Path, version: int, table: str, name: bytes
) -> None:
    """In a migrated state, the tables are in other places of the file than in a new one."""
    await leave_state(tmp_path, version)
    whole, _ = await opened(tmp_path)
    content = (tmp_path / "state.db").read_bytes()
    entry = f"table{table}{table}".encode()
    assert entry in content
    flipped = entry.replace(table.encode(), name, 1)
    (tmp_path / "state.db").write_bytes(content.replace(entry, flipped))
    found, message = await opened(tmp_path)
    assert found == whole
    assert "nothing is known to be lost" in str(message)


async def test_a_schema_that_is_no_text_loses_nothing(state: Path) -> None:
    whole, _ = await opened(state)
    with closing(sqlite3.connect(state / "state.db")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = CAST(sql AS BLOB) WHERE name = 'published'"
        )
        connection.commit()
    await check_damaged(whole, state, "a blob")
    assert (await opened(state))[0] == whole


async def test_a_record_that_cannot_be_decoded_is_set_aside_alone(state: Path) -> None:
    whole, _ = await opened(state)
    with closing(sqlite3.connect(state / "state.db")) as connection:
        connection.execute("UPDATE downloads SET body = 'nonsense' WHERE download_id = 'd-3'")
        connection.execute("UPDATE models SET body = X'7B' WHERE model_id = 'm-4'")
        connection.commit()
    found, message = await opened(state)
    assert message is not None
    assert "1 download (d-3), 6 planned files (of d-3), 1 model (m-4)" in message
    assert found["downloads"] == {k: v for k, v in whole["downloads"].items() if k != "d-3"}
    assert found["models"] == {k: v for k, v in whole["models"].items() if k != "m-4"}
    [report] = state.glob("state.damaged-*.lost.jsonl")
    listed = [msgspec.json.decode(line) for line in report.read_bytes().splitlines()]
    assert [line["row"]["body"] for line in listed if line["table"] == "downloads"] == ["nonsense"]


UNSEALED = {
    "downloads": ("d-3", "UPDATE downloads SET body = ? WHERE download_id = 'd-3'"),
    "models": ("m-4", "UPDATE models SET body = ? WHERE model_id = 'm-4'"),
    "notes": ("shadow", "UPDATE notes SET body = ? WHERE name = 'shadow'"),
}


@pytest.mark.parametrize("table", UNSEALED)
async def test_an_unsealed_text_that_is_no_utf8(state: Path, table: str) -> None:
    """As written by a downloader without checksums."""
    key, update = UNSEALED[table]
    with closing(sqlite3.connect(state / "state.db")) as connection:
        connection.execute(update, (b'{"a": "\xff"}',))
        connection.commit()
    found, message = await opened(state)
    assert key not in found[table]
    assert message


@pytest.mark.parametrize(
    "impossible",
    [
        {"staging": "/data/d-2"},
        {"staging": "/etc/.s3downloader/0000000000000002"},
        {"staging": "/data/.s3downloader/../../home"},
        {"destination": "data/d-2"},
        {"bytes_total": -1},
        {"plan": -3},
        {"created_at": 0.0},
        {"download_id": "another"},
        {"state": State.PUBLISHING, "publish_began": False},
        {"exchange": {"inode": 7, "slot": "/home/.s3downloader/versions/1"}},
        {"state": "gone"},
    ],
    ids=str,
)
async def test_a_download_that_cannot_be_is_set_aside(
    state: Path, impossible: dict[str, Any]
) -> None:
    body = msgspec.json.encode(msgspec.to_builtins(a_download(2, State.DOWNLOADING)) | impossible)
    with closing(sqlite3.connect(state / "state.db")) as connection:
        connection.execute("UPDATE downloads SET body = ? WHERE download_id = 'd-2'", (body,))
        connection.commit()
    found, message = await opened(state)
    assert "d-2" not in found["downloads"]
    assert "1 download (d-2)" in str(message)


@pytest.mark.parametrize(
    "path",
    [
        "/home/someone",
        "/data/.s3downloader/versions/1/other",
        "/home/.s3downloader/versions/1/d-1",
        "/data/.s3downloader/versions/../../d-1",
        "data/.s3downloader/versions/1/d-1",
        "/",
    ],
)
async def test_a_version_that_lies_elsewhere_is_set_aside(state: Path, path: str) -> None:
    body = msgspec.json.encode({"number": 1, "place": "/data/d-1", "path": path, "doomed": True})
    with closing(sqlite3.connect(state / "state.db")) as connection:
        connection.execute("UPDATE versions SET body = ? WHERE number = 1", (body,))
        connection.commit()
    found, message = await opened(state)
    assert set(found["versions"]) == {2, 3}
    assert "1 retained version" in str(message)


@pytest.mark.parametrize("version", [0, 1, 2, schema().version + 1, 131])
async def test_a_version_that_the_tables_contradict_loses_nothing(
    state: Path, version: int
) -> None:
    whole, _ = await opened(state)
    with closing(sqlite3.connect(state / "state.db")) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    found, message = await opened(state)
    assert found == whole
    assert f"version {version}" in str(message)
    assert "nothing is known to be lost" in str(message)


async def test_no_number_of_a_lost_file_comes_again(state: Path) -> None:
    with closing(sqlite3.connect(state / "state.db")) as connection:
        (last,) = connection.execute("SELECT max(number) FROM files").fetchone()
        connection.execute("DELETE FROM files WHERE number = ?", (last,))
        connection.execute("DELETE FROM sqlite_sequence")
        connection.execute("PRAGMA user_version = 130")
        connection.commit()
    store = Store(state)
    await store.plan("d-0", 2, [Item("new", ObjectRef("d-0/new", 1, "etag"))])
    numbers = {file.path: file.number async for file in store.files("d-0")}
    await store.close()
    assert numbers["new"] > last


async def test_damage_is_told_until_it_has_been(state: Path) -> None:
    for version in (130, 131):
        with closing(sqlite3.connect(state / "state.db")) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        _, message = await opened(state)
    assert "version 131" in str(message)
    assert "before that: the state was damaged (it has version 130" in str(message)
    store = Store(state)
    await store.clear_damage()
    await store.close()
    assert (await opened(state))[1] is None


async def test_files_name_the_download_that_cannot_be_read(state: Path) -> None:
    with closing(sqlite3.connect(state / "state.db")) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'downloads'"
        (root,) = connection.execute(query).fetchone()
    with (state / "state.db").open("r+b") as file:
        file.seek((root - 1) * 4_096)
        file.write(bytes(4_096))
    _, message = await opened(state)
    assert "60 planned files (of d-0, d-1, d-2" in str(message)
    assert "what could not be read of downloads" in str(message)


async def test_lost_models_come_back_from_the_shadow(state: Path) -> None:
    with closing(sqlite3.connect(state / "state.db")) as connection:
        connection.execute("UPDATE models SET body = X'7B' WHERE model_id = 'm-4'")
        connection.commit()
    found, _ = await opened(state)
    assert "shadow" not in found["notes"]  # otherwise it would seem to be deleted by the device


async def test_of_a_damaged_state_no_list_of_files_is_published(tmp_path: Path) -> None:
    publishing = msgspec.structs.replace(a_download(4, State.PUBLISHING), exchange=None)
    store = Store(tmp_path)
    await store.record(Change(downloads=[publishing]))
    await store.close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("PRAGMA user_version = 130")
    store = Store(tmp_path)
    [found] = await store.downloads()
    await store.close()
    assert found == msgspec.structs.replace(publishing, state=State.QUEUED)


async def killed(state: Path, directory: Path) -> tuple[Path, Everything]:
    """Return a state after kill -9, with changes in its write-ahead log, and its contents."""
    store = Store(state)
    for number in range(100, 104):
        await store.record(Change(downloads=[a_download(number, State.QUEUED)]))
    shutil.copytree(state, directory / "killed")
    everything = await read_everything(store)
    await store.close()
    return directory / "killed", everything


async def test_no_flipped_bit_in_the_log_is_believed(state: Path, tmp_path: Path) -> None:
    left, everything = await killed(state, tmp_path)
    log = (left / "state.db-wal").read_bytes()
    bits = [*range(0, 32 * 8, 7), *random.Random(7).sample(range(len(log) * 8), 50)]
    frames = range(32, len(log), 4_120)
    commits = [frame for frame in frames if log[frame + 4 : frame + 8] != bytes(4)]
    last = commits[-2] + 4_120  # the rest may be left by a loss of power
    for bit in bits:
        flipped = bytearray(log)
        flipped[bit // 8] ^= 1 << bit % 8
        directory = tmp_path / str(bit)
        shutil.copytree(left, directory)
        (directory / "state.db-wal").write_bytes(flipped)
        if bit // 8 < last:
            await check_damaged(everything, directory, f"bit {bit % 8} of byte {bit // 8}")
        else:
            await opened(directory)


async def test_a_torn_end_of_the_log_is_no_damage(state: Path, tmp_path: Path) -> None:
    left, _ = await killed(state, tmp_path)
    os.truncate(left / "state.db-wal", (left / "state.db-wal").stat().st_size - 1)
    assert (await opened(left))[1] is None


async def test_a_log_that_a_loss_of_power_left_empty_is_no_damage(
    state: Path, tmp_path: Path
) -> None:
    whole, _ = await opened(state)
    (state / "state.db-wal").write_bytes(bytes(4_152))
    assert await opened(state) == (whole, None)


async def test_what_a_damaged_log_loses_is_told(state: Path, tmp_path: Path) -> None:
    left, _ = await killed(state, tmp_path)
    with (left / "state.db-wal").open("r+b") as log:
        log.seek(32 + 100)
        log.write(b"nonsense")
    assert "lost: perhaps the last changes" in str((await opened(left))[1])


async def test_a_log_without_its_database_gives_back_what_it_has(
    state: Path, tmp_path: Path
) -> None:
    left, _ = await killed(state, tmp_path)
    (left / "state.db").unlink()
    _, message = await opened(left)
    assert "the file is missing" in str(message)


async def test_a_loss_of_power_at_any_step_loses_nothing(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, everything = await killed(state, tmp_path)
    with (left / "state.db").open("r+b") as file:
        file.seek(60)
        file.write(b"\0\0\0\x82")
    moments: list[Path] = []

    def before(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*given: Any, **named: Any) -> Any:
            moments.append(tmp_path / f"moment {len(moments)}")
            shutil.copytree(left, moments[-1])
            return step(*given, **named)

        return stepping

    with monkeypatch.context() as watching:
        watching.setattr(os, "fsync", before(os.fsync))
        watching.setattr(Path, "replace", before(Path.replace))
        watching.setattr(Path, "unlink", before(Path.unlink))
        assert (await opened(left))[0] == everything
    assert len(moments) > 8
    for moment in moments:
        found, _ = await opened(moment)
        assert found == everything
        assert [p.name for p in moment.glob("state.damaged-*.db")]
        assert not (moment / "salvage").exists()


async def test_a_disk_that_goes_on_failing_keeps_five_damaged_states(tmp_path: Path) -> None:
    for _ in range(7):
        await Store(tmp_path).close()
        (tmp_path / "state.db").write_bytes(b"")
        await Store(tmp_path).close()
    assert len(list(tmp_path.glob("state.damaged-*.db"))) == 5
