"""Objects that are deleted are not published; those that are replaced are fetched again."""

from __future__ import annotations

from typing import Any

import pytest

from s3downloader.core.objects import ObjectRef

from .harness import Harness
from .stand_ins import Source


def always(_: Any) -> bool:
    return True


@pytest.mark.parametrize("step", ["outdated", "drop_outdated"])
@pytest.mark.parametrize("interruption", ["pause", "stop"])
async def test_a_file_that_left_the_source_is_not_published(
    harness: Harness, step: str, interruption: str
) -> None:
    harness.source.objects = {"m/0-old": 10, "m/weights": 10}
    harness.engine.hold("m/weights")
    async with harness.running():
        await harness.download("m/", "x", "m")
        await harness.engine.stands_at("m/weights")
    [gone] = harness.downloads.rglob("files/0-old")
    del harness.source.objects["m/0-old"]
    harness.engine.release()

    replanned = harness.hold(step, always)
    async with harness.running():
        await replanned.reached()
        if interruption == "pause":
            await harness.ask("pause", download_id="x")
    replanned.open()
    async with harness.running():
        if interruption == "pause":
            await harness.ask("resume", download_id="x")
        await harness.completed("x")
    assert not gone.exists()
    assert harness.files("m") == {"weights"}


async def test_what_is_replaced_while_the_daemon_is_away_is_told_once(harness: Harness) -> None:
    harness.source.objects = dict.fromkeys(["m/a", "m/b", "m/c", "m/weights"], 10)
    harness.engine.hold("m/weights")
    async with harness.running():
        await harness.download("m/", "x", "m")
        await harness.engine.stands_at("m/weights")
    harness.source.etags = {"m/b": "another", "m/c": "another"}
    harness.engine.release()
    async with harness.running():
        await harness.completed("x")
        await harness.until(lambda: harness.notices)
    [notice] = harness.notices
    assert (notice["level"], notice["error_code"]) == ("warning", "source_changed")
    assert notice["error_details"] == {"key": "m/b", "objects": 2}
    assert "s3://models/m/b and 1 other changed" in notice["message"]
    assert harness.engine.fetched.count("m/a") == 1
    assert harness.engine.fetched.count("m/b") == 2


class RestlessSource(Source):
    """A source whose objects have changed at every listing."""

    async def stat(self, name: str) -> ObjectRef:
        self.etags[name] = str(self.tries)
        return await super().stat(name)


async def test_a_source_that_keeps_changing_fails_and_can_be_resumed(harness: Harness) -> None:
    harness.source = RestlessSource()
    harness.source.objects = {"a": 10}
    async with harness.running():
        await harness.download("a", "x")
        error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "source_changed"
        assert "resume when its upload has ended" in error["error"]
        assert not (harness.downloads / "a").exists()
    harness.source = Source()
    harness.source.objects = {"a": 10}
    async with harness.running():
        await harness.ask("resume", download_id="x")
        await harness.completed("x")


@pytest.mark.parametrize("etag", ["tag", ""])
async def test_what_has_no_validator_is_fetched_again_after_a_pause(
    harness: Harness, etag: str
) -> None:
    """Without a validator, nobody can know whether the object is still the same."""
    harness.source.objects = {"m/a": 10, "m/weights": 10}
    harness.source.etags = {"m/a": etag}
    harness.engine.hold("m/weights")
    async with harness.running():
        await harness.download("m/", "x", "m")
        await harness.engine.stands_at("m/weights")
        await harness.ask("pause", download_id="x")
        harness.engine.release()
        await harness.ask("resume", download_id="x")
        await harness.completed("x")
    assert harness.engine.fetched.count("m/a") == (1 if etag else 2)


@pytest.mark.parametrize(
    ("before", "now"), [("m/a/b", "m/a"), ("m/a/b/c", "m/a"), ("m/a", "m/a/b"), ("m/a/b", "m/a/c")]
)
async def test_a_file_may_replace_a_folder_and_a_folder_a_file(
    harness: Harness, before: str, now: str
) -> None:
    harness.source.objects = {before: 10, "m/weights": 10}
    harness.engine.hold("m/weights")
    async with harness.running():
        await harness.download("m/", "x", "m")
        await harness.engine.stands_at("m/weights")
    harness.source.objects = {now: 10, "m/weights": 10}
    harness.engine.release()
    async with harness.running():
        await harness.completed("x")
    assert harness.files("m") == {now.removeprefix("m/"), "weights"}
