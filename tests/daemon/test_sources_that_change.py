"""What leaves the source is not published, what is replaced there is told and fetched anew."""

from __future__ import annotations

from typing import Any

import pytest

from s3downloader.sources.s3.source import ObjectInfo

from .rig import Rig
from .stand_ins import Source


def always(_: Any) -> bool:
    return True


@pytest.mark.parametrize("step", ["outdated", "drop_outdated"])
@pytest.mark.parametrize("interruption", ["pause", "stop"])
async def test_a_file_that_left_the_source_is_not_published(
    rig: Rig, step: str, interruption: str
) -> None:
    rig.source.objects = {"m/0-old": 10, "m/weights": 10}
    rig.engine.hold("m/weights")
    async with rig.running():
        await rig.download("m/", "x", "m")
        await rig.engine.stands_at("m/weights")
    [gone] = rig.downloads.rglob("files/0-old")
    del rig.source.objects["m/0-old"]
    rig.engine.release()

    replanned = rig.hold(step, always)
    async with rig.running():
        await replanned.reached()
        if interruption == "pause":
            await rig.ask("pause", download_id="x")
    replanned.open()
    async with rig.running():
        if interruption == "pause":
            await rig.ask("resume", download_id="x")
        await rig.completed("x")
    assert not gone.exists()
    assert rig.files("m") == {"weights"}


async def test_what_is_replaced_while_the_daemon_is_away_is_told_once(rig: Rig) -> None:
    rig.source.objects = dict.fromkeys(["m/a", "m/b", "m/c", "m/weights"], 10)
    rig.engine.hold("m/weights")
    async with rig.running():
        await rig.download("m/", "x", "m")
        await rig.engine.stands_at("m/weights")
    rig.source.etags = {"m/b": "another", "m/c": "another"}
    rig.engine.release()
    async with rig.running():
        await rig.completed("x")
        await rig.until(lambda: rig.notices)
    [notice] = rig.notices
    assert (notice["level"], notice["error_code"]) == ("warning", "source_changed")
    assert notice["error_details"] == {"key": "m/b", "objects": 2}
    assert "s3://models/m/b and 1 other changed" in notice["message"]
    assert rig.engine.fetched.count("m/a") == 1
    assert rig.engine.fetched.count("m/b") == 2


class RestlessSource(Source):
    """A source whose objects are others each time that one looks."""

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        self.etags[key] = str(self.tries)
        return await super().head(bucket, key)


async def test_a_source_that_never_rests_is_given_up_and_can_be_resumed(rig: Rig) -> None:
    rig.source = RestlessSource()
    rig.source.objects = {"a": 10}
    async with rig.running():
        await rig.download("a", "x")
        error = await rig.hears("download_error", "x")
        assert error["error_code"] == "source_changed"
        assert "resume when its upload has ended" in error["error"]
        assert not (rig.downloads / "a").exists()
    rig.source = Source()
    rig.source.objects = {"a": 10}
    async with rig.running():
        await rig.ask("resume", download_id="x")
        await rig.completed("x")


@pytest.mark.parametrize("etag", ["tag", ""])
async def test_what_has_no_validator_is_fetched_again_after_a_pause(rig: Rig, etag: str) -> None:
    """Nothing tells that the object is still the one of which the file is."""
    rig.source.objects = {"m/a": 10, "m/weights": 10}
    rig.source.etags = {"m/a": etag}
    rig.engine.hold("m/weights")
    async with rig.running():
        await rig.download("m/", "x", "m")
        await rig.engine.stands_at("m/weights")
        await rig.ask("pause", download_id="x")
        rig.engine.release()
        await rig.ask("resume", download_id="x")
        await rig.completed("x")
    assert rig.engine.fetched.count("m/a") == (1 if etag else 2)
