"""The daemon is stopped at any moment, and the next one continues from there."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import SourceRef
from s3downloader.core.records import State
from s3downloader.store import Change, Store

from ..support import ManualClock
from .harness import Harness, reaches

MiB = 1 << 20


async def at_work(harness: Harness) -> None:
    harness.engine.hold("a")
    await harness.download("a", "a")
    await harness.engine.stands_at("a")


async def waiting(harness: Harness) -> None:
    harness.source.error = DownloaderError(ErrorCode.TIMEOUT, "the store is silent")
    await harness.download("a", "a")
    await harness.becomes(State.WAITING, "a")


async def publishing(harness: Harness) -> None:
    gate = harness.hold("record", reaches(State.PUBLISHING))
    await harness.download("a", "a")
    await gate.reached()
    gate.open()


async def completing(harness: Harness) -> None:
    gate = harness.hold("record", reaches(State.COMPLETED))
    await harness.download("a", "a")
    await gate.reached()
    gate.open()


@pytest.mark.parametrize("moment", [at_work, waiting, publishing, completing])
async def test_stopping_with_a_queue_is_clean_and_all_resume(
    harness: Harness, moment: Callable[[Harness], Awaitable[None]]
) -> None:
    names = ["a", "b", "c"]
    harness.source.objects = dict.fromkeys(names, 10)
    harness.configuration["MaxConcurrentDownloads"] = 1
    async with harness.running():
        await moment(harness)
        harness.engine.hold("b")
        for name in names[1:]:
            await harness.download(name, name)
    harness.source.error = None
    harness.engine.release()
    async with harness.running():
        await harness.completed(*names)
        assert set((await harness.listed()).values()) == {"completed"}
    assert [harness.events(name).count("download_completed") for name in names] == [1, 1, 1]


async def test_two_downloads_that_fitted_before_a_restart_still_fit(harness: Harness) -> None:
    size = 512 * MiB
    for name in "ab":
        harness.source.objects |= {f"{name}/{n}": size for n in range(4)}
    harness.engine.hold("a/3", "b/3")
    async with harness.running():
        for name in "ab":
            await harness.download(f"{name}/", name, name)
        await harness.engine.stands_at("a/3", "b/3")
    # The files are sparse, so the space for six of them is taken from the usable space.
    harness.configuration["MinFreeBytes"] = (
        shutil.disk_usage(harness.downloads).free - 5 * size // 2
    )
    async with harness.running():
        await harness.engine.stands_at("a/3", "b/3")
        harness.engine.release()
        await harness.completed("a", "b")


async def test_the_seconds_of_work_before_a_clean_stop_count(
    harness: Harness, clock: ManualClock
) -> None:
    harness.source.objects = {"a": 10}
    harness.engine.hold("a")
    async with harness.running():
        await harness.download("a", "x")
        await harness.engine.stands_at("a")
        clock.time += 100
    clock.time += 5_000
    async with harness.running():
        await harness.engine.stands_at("a")
        clock.time += 20
        harness.engine.release()
        assert (await harness.completed("x"))["seconds"] == 120


async def test_a_destination_that_is_not_allowed_any_more(harness: Harness) -> None:
    roots = [harness.directory / "first", harness.directory / "second"]
    harness.configuration["AllowedDestinations"] = ",".join(map(str, roots))
    harness.source.objects = {"a": 10}
    harness.engine.hold("a")
    async with harness.running():
        answer = await harness.ask(
            "download", bucket="models", key="a", download_id="x", destination=str(roots[1])
        )
        assert answer["success"], answer
        await harness.engine.stands_at("a")
    harness.engine.release()
    harness.configuration["AllowedDestinations"] = str(roots[0])
    async with harness.running():
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "destination_not_allowed"
        assert not (roots[1] / "a").exists()


async def test_a_source_that_only_a_newer_version_knows_fails(harness: Harness) -> None:
    harness.source.objects = {"a": 10}
    async with harness.running():
        await at_work(harness)
    harness.engine.release()
    store = Store(harness.directory / "state")
    [download] = await store.downloads()
    elsewhere = msgspec.structs.replace(download, source=SourceRef("gs", "models", "a"))
    await store.record(Change(downloads=[elsewhere]))
    await store.close()
    async with harness.running():
        error = await harness.wait_for_event("download_error", "a")
        assert error["error_code"] == "unsupported_source"
        assert "gs://" in error["error"]
