"""The records of a download's files: their objects, and their failed attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from s3downloader.core.errors import ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.core.records import FailedAttempt, FileRecord, State
from s3downloader.store import Change, Item, Store

from .full_state import a_download

OBJECT = ObjectRef("vlm/a", 10, "e1", 1_700_000_000.5)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with one download of two files."""
    store = Store(tmp_path)
    await store.record(Change(downloads=[a_download(1, State.DOWNLOADING)]))
    await store.plan("d-1", 1, [Item("a", OBJECT), Item("b", ObjectRef("vlm/b", 5, "e2"))])
    yield store
    await store.close()


async def files_of(store: Store) -> list[FileRecord]:
    return [file async for file in store.files("d-1")]


async def test_a_file_has_its_object(store: Store) -> None:
    first, second = await files_of(store)
    assert first.object == OBJECT
    assert second.object.modified is None


async def test_a_new_plan_has_the_object_as_it_is_now(store: Store) -> None:
    touched = msgspec.structs.replace(OBJECT, modified=1_700_000_001.0)
    assert await store.plan("d-1", 2, [Item("a", touched)]) == [], "its bytes are the same"
    first, _ = await files_of(store)
    assert first.object == touched


async def test_failed_attempts_are_counted_and_the_last_one_told(store: Store) -> None:
    first, second = await files_of(store)
    await store.mark_failed([FailedAttempt(first.number, ErrorCode.TIMEOUT, "busy", 5.0, count=3)])
    await store.mark_failed([FailedAttempt(first.number, ErrorCode.STALLED, "silent")])
    failed, other = await files_of(store)
    assert (failed.attempts, failed.error_code, failed.error) == (4, ErrorCode.STALLED, "silent")
    assert failed.next_attempt is None
    assert other == second


async def test_the_time_of_the_next_attempt_is_kept(store: Store) -> None:
    first, _ = await files_of(store)
    await store.mark_failed([FailedAttempt(first.number, ErrorCode.TIMEOUT, "busy", 1_700.25)])
    failed, _ = await files_of(store)
    assert failed.next_attempt == 1_700.25


async def test_a_file_that_arrives_has_no_error_any_more(store: Store) -> None:
    first, _ = await files_of(store)
    await store.mark_failed([FailedAttempt(first.number, ErrorCode.TIMEOUT, "busy", 5.0)])
    await store.mark_done([first])
    arrived, _ = await files_of(store)
    assert (arrived.done, arrived.error_code, arrived.error) == (True, None, "")
    assert (arrived.attempts, arrived.next_attempt) == (1, None)


async def test_a_long_error_is_cut(store: Store) -> None:
    first, _ = await files_of(store)
    await store.mark_failed([FailedAttempt(first.number, ErrorCode.TIMEOUT, "busy " * 1_000)])
    failed, _ = await files_of(store)
    assert len(failed.error) == 500


async def test_a_file_can_be_skipped_and_taken_up_again(store: Store) -> None:
    first, _ = await files_of(store)
    await store.mark_skipped([first])
    assert [file.skipped for file in await files_of(store)] == [True, False]
    await store.mark_skipped([first], is_skipped=False)
    assert [file.skipped for file in await files_of(store)] == [False, False]
