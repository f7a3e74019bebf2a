"""The daemon is stopped at any moment, and the next one goes on from there."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .rig import Rig, reaches

MiB = 1 << 20


async def at_work(rig: Rig) -> None:
    rig.engine.hold("a")
    await rig.download("a", "a")
    await rig.engine.stands_at("a")


async def waiting(rig: Rig) -> None:
    rig.source.error = DownloaderError(ErrorCode.TIMEOUT, "the store is silent")
    await rig.download("a", "a")
    await rig.becomes(State.WAITING, "a")


async def publishing(rig: Rig) -> None:
    gate = rig.hold("record", reaches(State.PUBLISHING))
    await rig.download("a", "a")
    await gate.reached()
    gate.open()


async def completing(rig: Rig) -> None:
    gate = rig.hold("record", reaches(State.COMPLETED))
    await rig.download("a", "a")
    await gate.reached()
    gate.open()


@pytest.mark.parametrize("moment", [at_work, waiting, publishing, completing])
async def test_stopped_with_more_in_the_queue_it_ends_cleanly_and_all_go_on(
    rig: Rig, moment: Callable[[Rig], Awaitable[None]]
) -> None:
    names = ["a", "b", "c"]
    rig.source.objects = dict.fromkeys(names, 10)
    rig.configuration["MaxConcurrentDownloads"] = 1
    async with rig.running():
        await moment(rig)
        rig.engine.hold("b")
        for name in names[1:]:
            await rig.download(name, name)
    rig.source.error = None
    rig.engine.release()
    async with rig.running():
        await rig.completed(*names)
        assert set((await rig.listed()).values()) == {"completed"}
    assert [rig.events(name).count("download_completed") for name in names] == [1, 1, 1]


async def test_two_downloads_that_fitted_before_a_restart_still_fit(rig: Rig) -> None:
    size = 512 * MiB
    for name in "ab":
        rig.source.objects |= {f"{name}/{n}": size for n in range(4)}
    rig.engine.hold("a/3", "b/3")
    async with rig.running():
        for name in "ab":
            await rig.download(f"{name}/", name, name)
        await rig.engine.stands_at("a/3", "b/3")
    # The files are sparse: what six of them would take is taken from what may be used.
    rig.configuration["MinFreeBytes"] = shutil.disk_usage(rig.downloads).free - 5 * size // 2
    async with rig.running():
        await rig.engine.stands_at("a/3", "b/3")
        rig.engine.release()
        await rig.completed("a", "b")


async def test_the_seconds_of_work_before_a_clean_stop_count(rig: Rig, clock: ManualClock) -> None:
    rig.source.objects = {"a": 10}
    rig.engine.hold("a")
    async with rig.running():
        await rig.download("a", "x")
        await rig.engine.stands_at("a")
        clock.time += 100
    clock.time += 5_000
    async with rig.running():
        await rig.engine.stands_at("a")
        clock.time += 20
        rig.engine.release()
        assert (await rig.completed("x"))["seconds"] == 120


async def test_a_destination_that_is_not_allowed_any_more(rig: Rig) -> None:
    roots = [rig.directory / "first", rig.directory / "second"]
    rig.configuration["AllowedDestinations"] = ",".join(map(str, roots))
    rig.source.objects = {"a": 10}
    rig.engine.hold("a")
    async with rig.running():
        answer = await rig.ask(
            "download", bucket="models", key="a", download_id="x", destination=str(roots[1])
        )
        assert answer["success"], answer
        await rig.engine.stands_at("a")
    rig.engine.release()
    rig.configuration["AllowedDestinations"] = str(roots[0])
    async with rig.running():
        error = await rig.hears("download_error", "x")
        assert error["error_code"] == "destination_not_allowed"
        assert not (roots[1] / "a").exists()
