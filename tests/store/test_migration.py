"""A state of an older version is migrated to the present one, with everything in it."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from s3downloader.core.objects import Layout, SourceRef
from s3downloader.core.records import (
    Download,
    EngineName,
    Exchange,
    Failure,
    FileRecord,
    Options,
    Origin,
    Publish,
    Rollback,
    State,
    Version,
)
from s3downloader.store import Arrived, Change, Outgoing, Store
from s3downloader.store.migrations import MIGRATIONS, Schema, Step, schema
from s3downloader.store.recovery.sealing import seal
from s3downloader.store.recovery.tables import extends, shape, tables

STATES = Path(__file__).parent / "states"


def write_state(directory: Path, version: int) -> None:
    """Write a state to `directory` as the downloader of that version left it."""
    connection = sqlite3.connect(directory / "state.db")
    connection.executescript((STATES / f"version-{version}.sql").read_text())
    connection.close()


def columns(directory: Path) -> dict[str, set[str]]:
    """Return the names of the columns of each table."""
    connection = sqlite3.connect(directory / "state.db")
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    found = {
        name: {column[1] for column in connection.execute(f"PRAGMA table_info({name})")}
        for (name,) in tables
    }
    connection.close()
    return found


async def test_a_state_of_the_first_version_goes_on(tmp_path: Path) -> None:
    write_state(tmp_path, 1)
    store = Store(tmp_path)
    assert store.damaged is None
    [download] = await store.downloads()
    assert (download.download_id, download.state) == ("d1", State.DOWNLOADING)
    assert download.options == Options()
    assert [file async for file in store.files("d1")] == [
        FileRecord(1, "a", "vlm/a", 7, "e1", done=True),
        FileRecord(2, "b", "vlm/b", 5, "e2"),
    ]
    assert await store.outgoing() == [
        Outgoing(1, b'{"event":"download_started"}', is_response=False)
    ]
    assert await store.arrived() == []
    assert await store.response("c1") == b'{"success":true}'
    assert await store.models() == {"vlm": {"model_id": "vlm"}}
    assert await store.metadata("shadow") == b'{"version":7}'
    await store.close()


RENAMED = {"outbox.event": "payload"}
"""Renamed columns of earlier versions, as `table.column`, and their present names."""

PERSISTED = {4: "de6f0c8a"}
"""Digests of the fields and values of persisted records, by the version of the state."""

VERSIONS = sorted(int(path.stem.rpartition("-")[2]) for path in STATES.glob("*.sql"))


def values(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of each table, as values by column."""
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        connection.row_factory = sqlite3.Row
        return {
            name: [dict(row) for row in connection.execute(table.selection())]
            for name, table in tables(connection).items()
        }


def in_present_form(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its body decoded, and its source in the present form."""
    if "body" not in row:
        return row
    body = msgspec.json.decode(row["body"])
    if "download_id" in row and "source" not in body:
        bucket, key = body.pop("bucket"), body.pop("key")
        body["source"] = {"scheme": "s3", "authority": bucket, "path": key}
        body["layout"] = "tree" if key.endswith("/") else "file"
    return {**row, "body": body}


def test_there_is_a_state_of_every_earlier_version() -> None:
    assert set(VERSIONS) >= set(range(1, len(MIGRATIONS) + 1))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_state_to_migrate_has_a_value_in_every_column(tmp_path: Path, version: int) -> None:
    write_state(tmp_path, version)
    for table, rows in values(tmp_path).items():
        for column in columns(tmp_path)[table]:
            assert any(row[column] for row in rows), f"{table}.{column}"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_migration_loses_no_value(tmp_path: Path, version: int) -> None:
    write_state(tmp_path, version)
    before = values(tmp_path)
    store = Store(tmp_path)
    assert store.damaged is None
    await store.close()
    after = values(tmp_path)
    for table, rows in before.items():
        now = {column: RENAMED.get(f"{table}.{column}", column) for column in rows[0]}
        kept = [{column: row[now[column]] for column in now} for row in after[table]]
        assert [in_present_form(row) for row in kept] == [in_present_form(row) for row in rows]


def test_a_step_that_an_older_downloader_reads_only_adds(tmp_path: Path) -> None:
    write_state(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        shapes = [shape(connection)]
        for step in MIGRATIONS:
            step.take(connection)
            shapes.append(shape(connection))
    for version, step in enumerate(MIGRATIONS, start=2):
        assert step.oldest_reader <= version
        for older in range(step.oldest_reader, version):
            assert extends(shapes[version - 1], shapes[older - 1]), f"{version} adds to {older}"


def test_each_step_up_to_the_fourth_adds_to_the_tables(tmp_path: Path) -> None:
    """States of these versions do not contain their version."""
    sizes = []
    write_state(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        for step in (Step("", 1), *MIGRATIONS[:3]):
            step.take(connection)
            sizes.append(sum(1 + len(table.columns) for table in tables(connection).values()))
    assert sizes == sorted(set(sizes))


def test_what_is_persisted_changes_with_the_version_alone() -> None:
    """A downloader keeps unknown fields only in a state of a newer version.

    If this fails, add a step, which may be empty, and the digest for its version.
    """
    structs = (Download, SourceRef, Options, Failure, Exchange, Version, Rollback)
    fields = [
        f"{kind.__name__}.{field.encode_name}"
        for kind in structs
        for field in msgspec.structs.fields(kind)
    ]
    literals = (EngineName, Publish, Layout, Origin)
    values = [state.value for state in State]
    values += [value for literal in literals for value in get_args(literal)]
    digest = hashlib.sha256(" ".join(sorted(fields + values)).encode()).hexdigest()[:8]
    assert digest == PERSISTED[schema().version], sorted(fields + values)


async def test_a_step_may_be_a_function(tmp_path: Path) -> None:
    def rename(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE models ADD COLUMN signature TEXT")
        connection.execute("UPDATE models SET signature = model_id")

    write_state(tmp_path, 3)
    signed = "; ALTER TABLE models ADD COLUMN signature TEXT"
    newer = Schema(schema().tables + signed, (*MIGRATIONS, Step(rename, 4)))
    store = Store(tmp_path, newer)
    await store.close()
    assert {row["signature"] for row in values(tmp_path)["models"]} == {"vlm", "by-hand"}


async def test_messages_of_the_second_version_stay_in_order(tmp_path: Path) -> None:
    write_state(tmp_path, 2)
    store = Store(tmp_path)
    await store.record(Change(responses=[("c2", b"answer")]))
    assert await store.outgoing() == [
        Outgoing(1, b'{"event":"download_started"}', is_response=False),
        Outgoing(2, b'{"event":"model_added"}', is_response=False),
        Outgoing(3, b"answer", is_response=True),
    ]
    await store.receive("c3", b"payload")
    assert await store.arrived() == [Arrived(1, "c3", b"payload")]
    await store.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_migrated_state_is_like_a_new_one(tmp_path: Path, version: int) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    write_state(tmp_path / "old", version)
    for name in ("old", "new"):
        await Store(tmp_path / name).close()
    assert columns(tmp_path / "old") == columns(tmp_path / "new")


def lose_models(directory: Path) -> None:
    """Damage the table of models in a state."""
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'models'"
        (page,) = connection.execute(query).fetchone()
    with (directory / "state.db").open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(bytes(4_096))


@pytest.mark.parametrize("version", [v for v in VERSIONS if v <= len(MIGRATIONS)])
async def test_a_damaged_state_of_an_earlier_version_keeps_downloads(
    tmp_path: Path, version: int
) -> None:
    """Rows from a damaged state are migrated too."""
    downloads = []
    for directory in (tmp_path / "sound", tmp_path / "damaged"):
        directory.mkdir()
        write_state(directory, version)
        if directory.name == "damaged":
            lose_models(directory)
        store = Store(directory)
        assert bool(await store.damage()) is (directory.name == "damaged")
        downloads.append(await store.downloads())
        await store.close()
    sound, damaged = downloads
    assert damaged == sound
    assert all(download.source.scheme == "s3" for download in sound)


async def test_a_download_of_an_earlier_version_has_a_source(tmp_path: Path) -> None:
    write_state(tmp_path, 1)
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        for name, key in (("one", "vlm/a"), ("all", "")):
            connection.execute(
                "INSERT INTO downloads SELECT ?, created_at,"
                " CAST(json_set(body, '$.download_id', ?, '$.key', ?) AS BLOB) FROM downloads"
                " WHERE download_id = 'd1'",
                (name, name, key),
            )
        connection.commit()
    store = Store(tmp_path)
    assert store.damaged is None
    found = {download.download_id: download for download in await store.downloads()}
    assert {name: (str(d.source), d.layout, d.origin) for name, d in found.items()} == {
        "d1": ("s3://models/vlm/", "tree", "command"),
        "one": ("s3://models/vlm/a", "file", "command"),
        "all": ("s3://models/", "tree", "command"),
    }
    await store.close()


async def test_a_damaged_body_is_not_sealed_anew_by_a_migration(tmp_path: Path) -> None:
    write_state(tmp_path, 1)
    sealed = seal("d1", b'{"download_id":"d1","bucket":"models","key":"vlm/"}')
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        flipped = sealed.replace(b"vlm", b"vln")
        connection.execute("UPDATE downloads SET body = ? WHERE download_id = 'd1'", (flipped,))
        connection.commit()
    store = Store(tmp_path)
    assert store.damaged
    assert await store.downloads() == []
    await store.close()
