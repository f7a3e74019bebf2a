"""Failed attempts are recorded in the store; a fetch continues if they cannot be."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from s3downloader.core.aio import timeout
from s3downloader.core.errors import ErrorCode
from s3downloader.core.objects import ObjectRef
from s3downloader.core.records import FailedAttempt, FileRecord
from s3downloader.downloads.failed_attempts import FailedAttempts
from s3downloader.store import Change, Item, Store

from ..daemon.disk import Disk, connection_on
from ..support import eventually
from .support import a_download


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=connection_on(disk)))
    return disk


@pytest.fixture
async def store(tmp_path: Path, disk: Disk) -> AsyncIterator[Store]:
    """A store with a download of one file."""
    store = Store(tmp_path / "state")
    await store.record(Change(downloads=[a_download(tmp_path)]))
    await store.plan("d", 1, [Item("a", ObjectRef("v2/a", 10, "e"))])
    yield store
    await store.close()


async def the_file(store: Store) -> FileRecord:
    [file] = [file async for file in store.files("d")]
    return file


async def test_attempts_that_come_together_are_one_record(store: Store) -> None:
    file = await the_file(store)
    failed = FailedAttempts(store)
    failed.add(FailedAttempt(file.number, ErrorCode.TIMEOUT, "busy", 5.0))
    failed.add(FailedAttempt(file.number, ErrorCode.STALLED, "silent"))
    await failed.flush()
    file = await the_file(store)
    assert (file.attempts, file.error_code, file.error) == (2, ErrorCode.STALLED, "silent")


async def test_an_attempt_is_recorded_while_the_fetch_goes_on(store: Store) -> None:
    file = await the_file(store)
    failed = FailedAttempts(store)
    async with failed.recording(), timeout(10):
        failed.add(FailedAttempt(file.number, ErrorCode.TIMEOUT, "busy"))
        while (file := await the_file(store)).attempts == 0:
            continue
    assert file.error == "busy"


async def test_what_is_left_at_the_end_is_recorded(store: Store) -> None:
    file = await the_file(store)
    failed = FailedAttempts(store)
    async with failed.recording():
        failed.add(FailedAttempt(file.number, ErrorCode.TIMEOUT, "busy"))
    assert (await the_file(store)).attempts == 1


async def test_a_full_disk_ends_no_fetch(
    store: Store, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    file = await the_file(store)
    failed = FailedAttempts(store)
    with disk.full("UPDATE files", times=1):
        async with failed.recording():
            failed.add(FailedAttempt(file.number, ErrorCode.TIMEOUT, "busy"))
            await eventually(lambda: "could not be recorded" in caplog.text)
            failed.add(FailedAttempt(file.number, ErrorCode.STALLED, "silent"))
    assert (await the_file(store)).error == "silent"
