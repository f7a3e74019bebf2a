"""The store survives kills, reboots and damage, and belongs to one process."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import ObjectRef, SourceRef
from s3downloader.core.records import Download, FileRecord, Options, State
from s3downloader.store import Arrived, Change, Item, Outgoing, Store

from ..daemon.disk import Disk, connection_on


def a_download(download_id: str = "d1", **changes: Any) -> Download:
    download = Download(
        download_id=download_id,
        command_id="c1",
        source=SourceRef("s3", "models", "vlm/"),
        layout="tree",
        destination="/data/vlm",
        staging="/data/.s3downloader/1",
        options=Options(),
        model_meta={"model_id": "vlm"},
        created_at=1.0,
        updated_at=1.0,
    )
    return msgspec.structs.replace(download, **changes)


async def all_files(store: Store, **which: Any) -> list[FileRecord]:
    return [file async for file in store.files("d1", **which)]


async def test_what_was_recorded_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.receive("c0", b"kept")
    await store.record(
        Change(
            at=5.0,
            downloads=[a_download(state=State.PAUSED)],
            events=[b"first", b"second"],
            responses=[("c1", b"yes")],
            models={"vlm": {"model_id": "vlm"}},
            metadata={"shadow": b"7"},
        )
    )
    await store.close()

    store = Store(tmp_path)
    assert await store.downloads() == [a_download(state=State.PAUSED)]
    assert await store.arrived() == [Arrived(1, "c0", b"kept")]
    assert await store.outgoing() == [
        Outgoing(1, b"yes", is_response=True),
        Outgoing(2, b"first", is_response=False),
        Outgoing(3, b"second", is_response=False),
    ]
    assert await store.response("c1") == b"yes"
    assert await store.models() == {"vlm": {"model_id": "vlm"}}
    assert await store.metadata("shadow") == b"7"
    await store.close()


async def test_a_change_is_recorded_wholly_or_not_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    unwritable: Any = {"model_id": object()}
    with pytest.raises(TypeError):
        await store.record(Change(downloads=[a_download()], models={"vlm": unwritable}))
    assert await store.downloads() == []
    await store.close()


async def test_concurrent_writes_share_a_commit_and_fail_alone(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    await store.plan("d1", 1, [Item("a", ObjectRef("vlm/a", 1, "e"))])
    results = await asyncio.gather(
        store.record(Change(responses=[("c1", b"1")])),
        store.plan("d1", 1, [Item("a", ObjectRef("vlm/other", 1, "e"))]),
        store.record(Change(responses=[("c2", b"2")])),
        return_exceptions=True,
    )
    assert isinstance(results[1], DownloaderError)
    assert results[1].code is ErrorCode.UNSAFE_KEY
    assert (await store.response("c1"), await store.response("c2")) == (b"1", b"2")
    assert [file.name for file in await all_files(store)] == ["vlm/a"]
    await store.close()


def _open_and_report(directory: str, queue: multiprocessing.Queue[str]) -> None:
    try:
        Store(Path(directory))
        queue.put("opened")
    except DownloaderError as error:
        queue.put(error.message)


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    process = context.Process(target=_open_and_report, args=(str(tmp_path), queue))
    process.start()
    message = await asyncio.to_thread(queue.get, True, 30)
    process.join()
    assert "another process has the state" in message
    await store.close()


@pytest.mark.parametrize(
    ("damage", "some"), [("garbage", False), ("truncated", True), ("zeroed middle", True)]
)
async def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str, some: bool) -> None:
    store = Store(tmp_path)
    written = [a_download(f"d{n}") for n in range(500)]
    await store.record(Change(downloads=written))
    await store.close()
    path = tmp_path / "state.db"
    content = path.read_bytes()
    spoilt = {
        "garbage": b"not a database " * 1_000,
        "truncated": content[: len(content) // 2],
        "zeroed middle": content[:8_192] + bytes(65_536) + content[8_192 + 65_536 :],
    }[damage]
    path.write_bytes(spoilt)

    store = Store(tmp_path)
    assert store.damaged is not None
    assert store.damaged.read_bytes() == spoilt
    left = await store.downloads()
    assert bool(left) is some
    assert all(download in written for download in left)
    await store.record(Change(downloads=[a_download("new")]))
    await store.close()
    reopened = Store(tmp_path)
    assert reopened.damaged is None
    assert a_download("new") in await reopened.downloads()
    await reopened.close()


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloaderError, match="cannot be used") as caught:
        Store(tmp_path / "file" / "state")
    assert caught.value.code is ErrorCode.DESTINATION_NOT_WRITABLE


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("tag", "W/tag", True),
        ("W/tag", "tag", True),
        ("W/tag", "W/tag", True),
        ("tag", "W/other", False),
    ],
)
async def test_a_weak_etag_is_the_same_as_the_strong_one(
    tmp_path: Path, before: str, now: str, same: bool
) -> None:
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    await store.plan("d1", 1, [Item("a", ObjectRef("vlm/a", 1, before))])
    await store.mark_done(await all_files(store))
    replaced = await store.plan("d1", 2, [Item("a", ObjectRef("vlm/a", 1, now))])
    assert replaced == ([] if same else ["vlm/a"])
    assert len(await all_files(store, done=True)) == same
    await store.close()


async def test_a_new_plan_keeps_what_is_done_of_unchanged_objects(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    await store.plan("d1", 1, [Item(path, ObjectRef(f"vlm/{path}", 10, "e1")) for path in "abcd"])
    assert await store.outdated("d1", 1) == []
    await store.mark_done(await all_files(store))

    await store.plan(
        "d1",
        2,
        [
            Item("a", ObjectRef("vlm/a", 10, "e1")),
            Item("b", ObjectRef("vlm/b", 10, "e2")),
            Item("c", ObjectRef("vlm/c", 11, "e1")),
            Item("e", ObjectRef("vlm/e", 5, "e1")),
        ],
    )
    assert await store.outdated("d1", 2) == ["d"]
    await store.drop_outdated("d1", 2)
    assert [file.path for file in await all_files(store, done=True)] == ["a"]
    assert [file.path for file in await all_files(store, done=False)] == ["b", "c", "e"]
    assert await store.totals("d1") == (36, 4, 10, 1, 0)
    await store.close()


@pytest.mark.parametrize(("wanted", "stays"), [("", True), ("a" * 64, True), ("b" * 64, False)])
async def test_a_file_that_needs_no_sha256_any_more_stays_done(
    tmp_path: Path, wanted: str, stays: bool
) -> None:
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    await store.plan("d1", 1, [Item("a", ObjectRef("vlm/a", 1, "e"), "a" * 64)])
    [file] = await all_files(store)
    await store.mark_done([file])
    await store.set_sha256([(wanted, file.number)])
    [file] = await all_files(store)
    assert (file.sha256, file.done) == (wanted, stays)
    await store.close()


async def test_files_without_a_validator_are_doubted_as_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=connection_on(disk)))
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    await store.plan(
        "d1", 1, [Item("a", ObjectRef("vlm/a", 1, "")), Item("b", ObjectRef("vlm/b", 1, "e"))]
    )
    await store.mark_done(await all_files(store))
    with disk.full("UPDATE files", times=1), pytest.raises(DownloaderError, match="full"):
        await store.mark_unpinned_missing("d1")
    assert len(await all_files(store, done=True)) == 2
    await store.mark_unpinned_missing("d1")
    assert [file.path for file in await all_files(store, done=True)] == ["b"]
    await store.close()


@pytest.mark.parametrize("paths", [("a", "a/b"), ("x/a", "x/a b", "x/a/b")])
async def test_a_file_where_a_directory_is_needed_is_refused(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    await store.plan("d1", 1, [Item(path, ObjectRef(f"vlm/{path}", 1, "e")) for path in paths])
    with pytest.raises(DownloaderError, match="needs a directory") as caught:
        await store.outdated("d1", 1)
    assert caught.value.code is ErrorCode.UNSAFE_KEY
    await store.close()


async def test_files_are_gone_through_in_pages(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    paths = [f"{n:05d}" for n in range(2_500)]
    await store.plan("d1", 1, [Item(path, ObjectRef(f"vlm/{path}", 1, "e")) for path in paths])
    files = await all_files(store)
    assert [file.path for file in files] == paths
    assert [f.path for f in await all_files(store, after=files[2_000].number)] == paths[2_001:]
    await store.close()


async def test_forgetting_a_download_forgets_its_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download()]))
    await store.plan("d1", 1, [Item("a", ObjectRef("vlm/a", 1, "e"))])
    await store.record(Change(deleted_downloads=["d1"]))
    await store.close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        assert connection.execute("SELECT count(*) FROM files").fetchone() == (0,)
    connection.close()


async def test_messages_are_forgotten_by_number_answers_by_age(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.record(Change(events=[b"1", b"2"]))
    await store.delete_messages(published=[1])
    assert await store.outgoing() == [Outgoing(2, b"2", is_response=False)]
    await store.record(Change(at=10.0, responses=[("old", b"o")]))
    await store.record(Change(at=20.0, responses=[("new", b"n")]))
    await store.delete_responses(before=15.0, most=10)
    assert (await store.response("old"), await store.response("new")) == (None, b"n")
    await store.close()


async def test_the_first_response_to_a_command_id_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.record(Change(responses=[("c", b"first")]))
    await store.record(Change(responses=[("c", b"second")]))
    assert await store.response("c") == b"first"
    await store.close()


async def test_a_command_leaves_the_inbox_with_its_answer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for command_id in ("c", "d", "c"):
        await store.receive(command_id, b"payload")
    await store.record(Change(responses=[("c", b"yes")]))
    assert [(a.number, a.command_id) for a in await store.arrived()] == [(2, "d"), (3, "c")]
    await store.record(Change(responses=[("c", b"yes")]))
    await store.delete_messages(answered=[("d", 100), ("unknown", 100)])
    assert await store.arrived() == []
    await store.close()


async def test_a_generated_id_is_answered_and_not_remembered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.receive("generated-1", b"payload")
    await store.record(Change(responses=[("generated-1", b"yes")]))
    assert await store.arrived() == []
    assert await store.response("generated-1") is None
    assert [message.payload for message in await store.outgoing()] == [b"yes"]
    await store.close()


async def test_a_retained_command_is_taken_in_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    taken = [
        await store.receive(command_id, b"p", retained_digest=digest)
        for command_id, digest in (("a", b"1"), ("b", b"1"), ("c", None), ("d", b"2"), ("e", b"1"))
    ]
    assert [arrived and arrived.command_id for arrived in taken] == ["a", None, "c", "d", "e"]
    await store.close()


async def test_only_what_does_not_fit_on_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=connection_on(disk)))
    store = Store(tmp_path)
    await store.record(Change(models={"a": {"model_id": "a"}}))
    with disk.full("INTO models"):
        refused, models, _ = await asyncio.gather(
            store.record(Change(models={"b": {"model_id": "b"}})),
            store.models(),
            store.record(Change(metadata={"n": b"1"})),
            return_exceptions=True,
        )
    assert disk.refused == 1
    assert isinstance(refused, DownloaderError)
    assert refused.code is ErrorCode.DISK_FULL
    assert models == {"a": {"model_id": "a"}}
    assert await store.metadata("n") == b"1"
    await store.close()


async def test_a_lack_of_threads_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(DownloaderError, match="can't start new thread") as caught:
        Store(tmp_path)
    assert caught.value.code is ErrorCode.RESOURCES_EXHAUSTED
    monkeypatch.undo()
    await Store(tmp_path).close()


async def test_a_command_that_came_later_is_not_forgotten(tmp_path: Path) -> None:
    """An earlier one with the same ID was answered, but the later one could not be recorded."""
    store = Store(tmp_path)
    before = await store.newest_arrival()
    await store.receive("x", b"again")
    await store.delete_messages(answered=[("x", before)])
    assert [command.payload for command in await store.arrived()] == [b"again"]
    await store.delete_messages(answered=[("x", await store.newest_arrival())])
    assert await store.arrived() == []
    await store.close()
