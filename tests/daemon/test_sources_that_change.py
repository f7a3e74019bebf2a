"""What has left the source is not published, whenever the new plan is interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from .rig import Rig


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
