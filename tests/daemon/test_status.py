"""What the device tells of itself unasked."""

from __future__ import annotations

from s3downloader.errors import DownloaderError, ErrorCode
from s3downloader.records import State

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
