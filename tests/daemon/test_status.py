"""The status that the device publishes by itself."""

from __future__ import annotations

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import State

from ..support import ManualClock
from .harness import Harness


async def test_a_status_that_is_cut_shows_the_active_downloads_first(harness: Harness) -> None:
    failed = [f"failed-{n}" for n in range(20)]
    harness.source.objects = {"live": 10}
    harness.engine.hold("live")
    harness.configuration["MaxPayloadBytes"] = 2_000
    async with harness.running():
        for name in failed:
            await harness.download(f"{name}/", name, name)
            await harness.wait_for_event("download_error", name)
        await harness.download("live", "live")
        await harness.engine.stands_at("live")
        await harness.becomes(State.DOWNLOADING, "live")
        for status in (harness.statuses[-1], await harness.ask("status")):
            assert status["truncated"]
            assert status["active_downloads"] == 1
            assert 1 < len(status["downloads"]) < 20
            assert status["downloads"][0]["download_id"] == "live"


async def test_a_failure_is_an_error_event_with_all_its_details(harness: Harness) -> None:
    harness.source.error = DownloaderError(
        ErrorCode.ACCESS_DENIED, "refused", cause="AccessDenied 403"
    )
    async with harness.running():
        await harness.download("a", "x")
        await harness.until(lambda: harness.notices)
    [notice] = harness.notices
    assert notice.pop("timestamp") > 0
    assert notice == {
        "device_id": "edge",
        "level": "error",
        "message": "refused",
        "download_id": "x",
        "error_code": "access_denied",
        "error_details": {"cause": "AccessDenied 403"},
    }


async def test_progress_never_passes_what_there_is(harness: Harness) -> None:
    harness.source.objects = {"a": 1_000}
    harness.engine.hold("a")
    harness.engine.excess = 500
    async with harness.running():
        await harness.download("a", "x")
        await harness.engine.stands_at("a")
        [download] = (await harness.ask("list"))["downloads"]
        assert (download["progress"], download["bytes_done"], download["bytes_total"]) == (
            100,
            1_000,
            1_000,
        )


async def test_changes_in_a_row_share_one_status(harness: Harness, clock: ManualClock) -> None:
    harness.configuration["StatusMinInterval"] = 1
    harness.source.objects = {"a": 10, "b": 10}
    harness.engine.hold("a", "b")
    async with harness.running():
        await harness.pass_time(1)
        await harness.download("a", "x", "x")
        await harness.until(
            lambda: len(harness.statuses) == 2
        )  # the first change is published at once
        await harness.download("b", "y", "y")
        await harness.engine.stands_at("a", "b")
        await harness.pass_time(0.9)
        await harness.ask("status")
        assert len(harness.statuses) == 2
        await harness.pass_time(0.1)
        await harness.becomes(State.DOWNLOADING, "x", "y")
        assert len(harness.statuses) == 3


async def test_a_shorter_interval_takes_effect_at_once(
    harness: Harness, clock: ManualClock
) -> None:
    del harness.configuration["StatusMinInterval"]
    harness.component = {"StatusMinInterval": 3_600}
    harness.source.objects = {"a": 10}
    harness.engine.hold("a")
    async with harness.running():
        await harness.download("a", "x")
        await harness.engine.stands_at("a")
        await harness.ask("status")
        assert len(harness.statuses) == 1
        harness.reconfigure(StatusMinInterval=0)
        await harness.becomes(State.DOWNLOADING, "x")


async def test_a_status_shows_what_changed_before_all_else(
    harness: Harness, clock: ManualClock
) -> None:
    harness.source.objects = {"live": 10, "late": 10}
    harness.engine.hold("live", "late")
    async with harness.running():
        for name in ("failed-1", "failed-2"):
            await harness.download(f"{name}/", name, name)
            await harness.becomes(State.FAILED, name)
        await harness.download("live", "live", "live")
        await harness.becomes(State.DOWNLOADING, "live")
        await harness.pass_time(1)
        harness.source.objects = {}
        await harness.download("failed-3/", "failed-3", "failed-3")
        await harness.becomes(State.FAILED, "failed-3")
        shown = [download["download_id"] for download in harness.statuses[-1]["downloads"]]
        assert shown == ["failed-3", "live", "failed-1", "failed-2"]


async def test_a_notice_does_not_wait_for_the_status(harness: Harness, clock: ManualClock) -> None:
    harness.configuration["StatusMinInterval"] = 1
    harness.source.error = DownloaderError(ErrorCode.ACCESS_DENIED, "refused")
    async with harness.running():
        await harness.download("a", "x")
        await harness.until(lambda: harness.notices)
        assert len(harness.statuses) == 1
