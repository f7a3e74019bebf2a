"""An older downloader works on the state of a newer one, and keeps its additions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.core.records import Download, Failure, State
from s3downloader.store import Change, Item, Store
from s3downloader.store.migrations import Schema, Step, schema
from s3downloader.store.recovery.sealing import seal, unseal
from s3downloader.store.recovery.tables import extends, shape_of

from .full_state import a_version, read_everything, write_everything
from .newer import ADDS, NEWER, added, leave_newer_state


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A state of a newer downloader with rows in all tables, and values in all additions."""
    await leave_newer_state(tmp_path / "state")
    return tmp_path / "state"


def version_of(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def execute(directory: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        connection.execute(sql, values)
        connection.commit()


async def test_a_newer_state_is_read_like_one_of_today(state: Path, tmp_path: Path) -> None:
    await write_everything(tmp_path / "today")
    today, newer = Store(tmp_path / "today"), Store(state)
    assert await read_everything(newer) == await read_everything(today) | {
        "notes": {
            "shadow": b'{"version":7,"reported":{},"priority":7,"caller":{"job":"j-1"}}',
            "max_bandwidth": b"null",
        }
    }
    assert await newer.damage() is None
    await newer.close()
    await today.close()
    assert version_of(state) == NEWER.version


async def work_on(store: Store) -> None:
    """Change something in every table, as downloads, commands and rollbacks do."""
    downloads = {download.download_id: download for download in await store.downloads()}
    resumed = msgspec.structs.replace(downloads["d-8"], state=State.QUEUED, failure=None)
    limited = msgspec.structs.replace(
        downloads["d-1"], options=msgspec.structs.replace(downloads["d-1"].options, numworkers=3)
    )
    again = msgspec.structs.replace(
        downloads["d-7"], failure=Failure(ErrorCode.STALLED, "no byte came")
    )
    await store.receive("c-new", b"{}")
    await store.take_over()
    await store.record(
        Change(
            at=1_700_000_100.0,
            downloads=[resumed, limited, again, msgspec.structs.replace(downloads["d-2"], plan=2)],
            deleted_downloads=["d-9"],
            clear_files=["d-5"],
            events=[b"event"],
            responses=[("c-100", b"answer")],
            models={"m-1": {"model_id": "m-1", "local_path": "/data/other"}, "m-2": None},
            metadata={"shadow": b'{"version":8,"reported":{}}'},
            versions=[msgspec.structs.replace(a_version(1), pending_delete=True)],
            deleted_versions=[a_version(3)],
            moved=[("/data/d-5/weights-7.bin", "/data/d-6/weights-7.bin")],
        )
    )
    await store.plan("d-2", 2, [Item("weights-1.bin", ObjectRef("d-2/weights-1.bin", 9, '"e9"'))])
    await store.drop_outdated("d-2", 2)
    [file] = [file async for file in store.files("d-2")]
    await store.set_sha256([("5a", file.number)])
    await store.mark_done([file])
    known = await store.published([f"/data/d-5/weights-{n}.bin" for n in (1, 2)])
    await store.record_published([known[0]._replace(checksum="MD5:1"), known[1]._replace(inode=99)])
    await store.delete_published(["/data/d-5/weights-3.bin"])
    await store.delete_messages(published=[1], answered=[("c-101", 100)])
    await store.delete_responses(before=0.0, most=20)


async def test_what_a_newer_downloader_added_outlives_the_work_of_this(state: Path) -> None:
    before = added(state)
    store = Store(state)
    await work_on(store)
    everything = await read_everything(store)
    await store.close()
    store = Store(state, NEWER)
    assert await read_everything(store) == everything
    assert await store.damage() is None
    await store.close()

    after = added(state)
    gone = before.keys() - after.keys()
    assert {name for name in gone if not name.startswith(("files", "answers"))} == {
        *("downloads d-9", "jobs job-d-9", "models m-2", "versions 3", "outbox 1"),
        *("inbox 1", "inbox 2", "published /data/d-5/weights-3.bin"),
        "published /data/d-5/weights-7.bin",
    }
    changed = {name: after[name] for name in before.keys() & after if after[name] != before[name]}
    assert changed == {
        "downloads d-7": {k: v for k, v in before["downloads d-7"].items() if k != "failure.more"},
        "downloads d-8": {k: v for k, v in before["downloads d-8"].items() if k != "failure.more"},
        "published /data/d-5/weights-2.bin": {"signer": ""},
    }, "another failure and another file have nothing of those before"
    assert after["published /data/d-6/weights-7.bin"] == before["published /data/d-5/weights-7.bin"]
    assert after["log 2"] == {"number": 2, "said": "d-9"}, "its triggers see what is done"


async def test_rows_of_this_downloader_have_the_defaults_of_the_newer(state: Path) -> None:
    before = added(state)
    store = Store(state)
    await work_on(store)
    await store.close()
    new = {name: row for name, row in added(state).items() if name not in before}
    assert new["inbox 7"] == {"channel": "commands"}
    assert {tuple(row.items()) for name, row in new.items() if name.startswith("outbox")} == {
        (("device", "this"),)
    }
    assert new["answers c-100"] == {"channel": "responses"}


async def test_a_still_newer_downloader_takes_it_over_from_this(state: Path) -> None:
    store = Store(state)
    await work_on(store)
    await store.close()
    before = added(state)
    more = "ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 1"
    newest = Schema(f"{NEWER.tables}; {more}", (*NEWER.steps, Step(more, schema().version)))
    store = Store(state, newest)
    assert await store.damage() is None
    await store.close()
    assert version_of(state) == schema().version + 2
    kept = {name: row for name, row in added(state).items() if not name.startswith("format")}
    assert kept == {
        name: row | ({"priority": 1} if name.startswith("jobs") else {})
        for name, row in before.items()
        if not name.startswith("format")
    }


async def test_a_step_without_tables_is_gone_back_over_too(tmp_path: Path) -> None:
    fields = Schema(schema().tables, (*schema().steps, Step("", schema().version)))
    await write_everything(tmp_path)
    await Store(tmp_path, fields).close()
    store = Store(tmp_path)
    assert await store.damage() is None
    await store.close()
    assert version_of(tmp_path) == fields.version


def body_of(directory: Path, download_id: str) -> dict[str, Any]:
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        query = "SELECT body FROM downloads WHERE download_id = ?"
        [(sealed,)] = connection.execute(query, (download_id,)).fetchall()
    return dict(msgspec.json.decode(unseal(sealed)))


def change_body(directory: Path, download_id: str, **fields: Any) -> None:
    body = msgspec.json.encode(body_of(directory, download_id) | fields)
    update = "UPDATE downloads SET body = ? WHERE download_id = ?"
    execute(directory, update, seal(download_id, body), download_id)


async def test_a_code_that_is_not_known_is_read_and_kept(state: Path) -> None:
    failure = {"code": "bucket_on_holiday", "message": "back on Monday", "details": {}}
    change_body(state, "d-8", failure=failure)
    store = Store(state)
    downloads: dict[str, Download] = {d.download_id: d for d in await store.downloads()}
    failed = downloads["d-8"]
    assert failed.failure == Failure(ErrorCode.INTERNAL_ERROR, "back on Monday")
    await store.record(Change(downloads=[msgspec.structs.replace(failed, seconds=99.0)]))
    await store.close()
    assert body_of(state, "d-8")["failure"] == failure
    assert body_of(state, "d-8")["seconds"] == 99.0


def refused(directory: Path) -> str:
    """Return the error with which this downloader refuses a state, which it leaves unchanged."""
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(DownloaderError) as caught:
        Store(directory)
    assert caught.value.code is ErrorCode.INVALID_STATE
    assert "deploy the newer one again, or choose another StateDir" in str(caught.value)
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert after.keys() - {"state.db-wal", "state.db-shm"} == before.keys()
    assert after["state.db"] == before["state.db"]
    return str(caught.value)


async def test_a_state_that_does_not_allow_it_is_refused(tmp_path: Path) -> None:
    alone = NEWER._replace(steps=(*schema().steps, Step(ADDS, NEWER.version)))
    await Store(tmp_path, alone).close()
    known = f"version {NEWER.version}, and this downloader knows {schema().version} at most"
    assert known in refused(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM format",
        "DROP TABLE format",
        "UPDATE format SET body = '{\"oldest_reader\":1}'",
        "UPDATE format SET version = 1",
    ],
)
async def test_a_state_that_does_not_say_so_is_refused(state: Path, damage: str) -> None:
    execute(state, damage)
    assert f"version {NEWER.version}" in refused(state)


async def test_a_record_of_an_unknown_state_is_refused(state: Path) -> None:
    change_body(state, "d-1", state="verifying_twice")
    assert "downloads d-1" in refused(state)
    execute(state, "DELETE FROM sqlite_sequence WHERE name = 'files'")
    execute(state, "UPDATE downloads SET body = X'00' WHERE download_id = 'd-2'")
    assert "downloads d-1" in refused(state), "nor is it salvaged"


HOLDS_BACK = {
    "a column that must be given": "ALTER TABLE files ADD COLUMN mode INTEGER NOT NULL",
    "rows that may not repeat": "CREATE UNIQUE INDEX once ON files (key)",
    "a row that cannot be removed": "CREATE TABLE t (id TEXT PRIMARY KEY REFERENCES downloads)",
    "a column less": "ALTER TABLE files DROP COLUMN checksum",
    "a table less": "DROP TABLE versions",
    "an index less": "DROP INDEX answers_by_age",
    "a column of another name": "ALTER TABLE files RENAME COLUMN etag TO validator",
}


@pytest.mark.parametrize("change", HOLDS_BACK.values(), ids=HOLDS_BACK)
def test_what_an_older_downloader_could_not_work_on(change: str) -> None:
    known = schema().tables
    assert extends(shape_of(f"{known}; {ADDS}"), shape_of(known))
    assert not extends(shape_of(f"{known}; {change}"), shape_of(known))
