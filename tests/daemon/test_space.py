"""Space that is reserved for one download is not given to another."""

from __future__ import annotations

from s3downloader.core.records import State
from s3downloader.downloads.planning import disk_space

from .harness import Harness


async def test_space_that_another_download_needs_is_not_free(harness: Harness) -> None:
    """The sizes are fractions of the free space, because others write to the disk meanwhile."""
    free = disk_space.space(harness.directory).free
    size = 6 * free // 10
    harness.configuration["MinFreeBytes"] = free // 10
    harness.source.objects = {"m/first": size, "m/second": size}
    harness.engine.hold("m/first")
    async with harness.running():
        await harness.download("m/first", "first", "first")
        await harness.engine.stands_at("m/first")
        await harness.download("m/second", "second", "second")
        error = await harness.wait_for_event("download_error", "second")
        assert error["error_code"] == "insufficient_space"
        assert f"{size} promised to other downloads" in error["error"]
        [notice] = await harness.until(lambda: harness.notices)
        assert notice["error_details"]["needed"] == size

        harness.engine.release()
        await harness.completed("first")
        await harness.ask("resume", download_id="second")
        await harness.completed("second")


async def test_of_two_planned_at_once_one_has_the_space(harness: Harness) -> None:
    free = disk_space.space(harness.directory).free
    size = 6 * free // 10
    harness.source.objects = {"m/first": size, "m/second": size}
    harness.engine.hold("m/first", "m/second")
    async with harness.running():
        planned = harness.hold("versions", lambda _: True)  # read before the space is checked
        await harness.download("m/first", "first", "first")
        await harness.download("m/second", "second", "second")
        await harness.until(lambda: planned.waiting == 2)
        planned.open()
        await harness.until(lambda: harness.engine.standing)
        await harness.until(
            lambda: "download_error" in harness.events("first") + harness.events("second")
        )
        assert len(harness.engine.standing) == 1
        assert sorted(status for status in (await harness.listed()).values()) == [
            State.DOWNLOADING.value,
            State.FAILED.value,
        ]


async def test_a_source_that_grows_meanwhile_is_checked_for_space(harness: Harness) -> None:
    free = disk_space.space(harness.directory).free
    harness.configuration["MinFreeBytes"] = free // 10
    harness.source.objects = {"m/a": 10}
    harness.engine.hold("m/a")
    async with harness.running():
        await harness.download("m/a", "x")
        await harness.engine.stands_at("m/a")
        harness.source.objects = {"m/a": 19 * free // 20}
        harness.engine.release()
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "insufficient_space"
        assert harness.engine.fetched == ["m/a"]

        harness.source.objects = {"m/a": 20}
        await harness.ask("resume", download_id="x")
        await harness.completed("x")
