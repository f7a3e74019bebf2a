"""What the device tells of itself unasked."""

from __future__ import annotations

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .rig import Rig


async def test_a_status_that_is_cut_shows_the_active_downloads_first(rig: Rig) -> None:
    failed = [f"failed-{n}" for n in range(20)]
    rig.source.objects = {"live": 10}
    rig.engine.hold("live")
    rig.configuration["MaxPayloadBytes"] = 2_000
    async with rig.running():
        for name in failed:
            await rig.download(f"{name}/", name, name)
            await rig.hears("download_error", name)
        await rig.download("live", "live")
        await rig.engine.stands_at("live")
        await rig.becomes(State.DOWNLOADING, "live")
        for status in (rig.statuses[-1], await rig.ask("status")):
            assert status["truncated"]
            assert status["active_downloads"] == 1
            assert 1 < len(status["downloads"]) < 20
            assert status["downloads"][0]["download_id"] == "live"


async def test_a_failure_is_told_as_an_error_with_all_that_is_known_of_it(rig: Rig) -> None:
    rig.source.error = DownloaderError(ErrorCode.ACCESS_DENIED, "refused", cause="AccessDenied 403")
    async with rig.running():
        await rig.download("a", "x")
        await rig.until(lambda: rig.notices)
    [notice] = rig.notices
    assert notice.pop("timestamp") > 0
    assert notice == {
        "device_id": "edge",
        "level": "error",
        "message": "refused",
        "download_id": "x",
        "error_code": "access_denied",
        "error_details": {"cause": "AccessDenied 403"},
    }


async def test_progress_never_passes_what_there_is(rig: Rig) -> None:
    rig.source.objects = {"a": 1_000}
    rig.engine.hold("a")
    rig.engine.excess = 500
    async with rig.running():
        await rig.download("a", "x")
        await rig.engine.stands_at("a")
        [told] = (await rig.ask("list"))["downloads"]
        assert (told["progress"], told["bytes_done"], told["bytes_total"]) == (100, 1_000, 1_000)


async def test_changes_in_a_row_share_one_status(rig: Rig, clock: ManualClock) -> None:
    rig.configuration["StatusMinInterval"] = 1
    rig.source.objects = {"a": 10, "b": 10}
    rig.engine.hold("a", "b")
    async with rig.running():
        await rig.pass_time(1)
        await rig.download("a", "x", "x")
        await rig.until(lambda: len(rig.statuses) == 2)  # the first change is told at once
        await rig.download("b", "y", "y")
        await rig.engine.stands_at("a", "b")
        await rig.pass_time(0.9)
        await rig.ask("status")
        assert len(rig.statuses) == 2
        await rig.pass_time(0.1)
        await rig.becomes(State.DOWNLOADING, "x", "y")
        assert len(rig.statuses) == 3


async def test_a_shorter_interval_takes_effect_at_once(rig: Rig, clock: ManualClock) -> None:
    del rig.configuration["StatusMinInterval"]
    rig.component = {"StatusMinInterval": 3_600}
    rig.source.objects = {"a": 10}
    rig.engine.hold("a")
    async with rig.running():
        await rig.download("a", "x")
        await rig.engine.stands_at("a")
        await rig.ask("status")
        assert len(rig.statuses) == 1
        rig.reconfigure(StatusMinInterval=0)
        await rig.becomes(State.DOWNLOADING, "x")


async def test_a_status_shows_what_changed_before_all_else(rig: Rig, clock: ManualClock) -> None:
    rig.source.objects = {"live": 10, "late": 10}
    rig.engine.hold("live", "late")
    async with rig.running():
        for name in ("failed-1", "failed-2"):
            await rig.download(f"{name}/", name, name)
            await rig.becomes(State.FAILED, name)
        await rig.download("live", "live", "live")
        await rig.becomes(State.DOWNLOADING, "live")
        await rig.pass_time(1)
        rig.source.objects = {}
        await rig.download("failed-3/", "failed-3", "failed-3")
        await rig.becomes(State.FAILED, "failed-3")
        shown = [download["download_id"] for download in rig.statuses[-1]["downloads"]]
        assert shown == ["failed-3", "live", "failed-1", "failed-2"]


async def test_a_notice_does_not_wait_for_the_status(rig: Rig, clock: ManualClock) -> None:
    rig.configuration["StatusMinInterval"] = 1
    rig.source.error = DownloaderError(ErrorCode.ACCESS_DENIED, "refused")
    async with rig.running():
        await rig.download("a", "x")
        await rig.until(lambda: rig.notices)
        assert len(rig.statuses) == 1
