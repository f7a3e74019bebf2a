"""Space that one download needs is not promised to another."""

from __future__ import annotations

from s3downloader.core.records import State
from s3downloader.downloads.planning import path_safety

from .rig import Rig


async def test_space_that_another_download_needs_is_not_free(rig: Rig) -> None:
    """Shares of the disk, since others write to it meanwhile; the stand-in's files are sparse."""
    free = path_safety.space(rig.directory).free
    size = 6 * free // 10
    rig.configuration["MinFreeBytes"] = free // 10
    rig.source.objects = {"m/first": size, "m/second": size}
    rig.engine.hold("m/first")
    async with rig.running():
        await rig.download("m/first", "first", "first")
        await rig.engine.stands_at("m/first")
        await rig.download("m/second", "second", "second")
        error = await rig.hears("download_error", "second")
        assert error["error_code"] == "insufficient_space"
        assert f"{size} promised to other downloads" in error["error"]
        [notice] = await rig.until(lambda: rig.notices)
        assert notice["error_details"]["needed"] == size

        rig.engine.release()
        await rig.completed("first")
        await rig.ask("resume", download_id="second")
        await rig.completed("second")


async def test_of_two_planned_at_once_one_has_the_space(rig: Rig) -> None:
    free = path_safety.space(rig.directory).free
    size = 6 * free // 10
    rig.source.objects = {"m/first": size, "m/second": size}
    rig.engine.hold("m/first", "m/second")
    async with rig.running():
        planned = rig.hold("versions", lambda _: True)  # read before the space is looked at
        await rig.download("m/first", "first", "first")
        await rig.download("m/second", "second", "second")
        await rig.until(lambda: planned.waiting == 2)
        planned.open()
        await rig.until(lambda: rig.engine.standing)
        await rig.until(lambda: "download_error" in rig.events("first") + rig.events("second"))
        assert len(rig.engine.standing) == 1
        assert sorted(told for told in (await rig.listed()).values()) == [
            State.DOWNLOADING.value,
            State.FAILED.value,
        ]
