"""Objects are replaced during a download: the result is the new version as a whole."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from sandbox.operator import DeviceMessage
from sandbox.servers import ObjectServer

from .conftest import Bench, sha256

MiB = 1 << 20
BEGUN_AND_DONE = ["download_started", "download_completed"]


async def change_told(bench: Bench) -> dict[str, Any]:
    """Return the notice about the changed source; fail if there is more than one."""

    def tells(received: DeviceMessage) -> bool:
        message = received.message
        return "level" in message and message["error_code"] == "source_changed"

    notice = await bench.operator.wait_for(tells, what="the notice")
    assert [h.message for h in bench.operator.received if tells(h)] == [notice]
    return notice


@pytest.mark.parametrize("how", ["in one piece", "in parts"])
async def test_an_object_replaced_in_mid_download_arrives_wholly_new(
    bench: Bench, object_server: ObjectServer, how: str
) -> None:
    key = f"replaced/{how.replace(' ', '-')}"
    size = 20 * MiB
    await object_server.make(key, size)
    bench.link.freeze_after(10 * MiB)
    operator = bench.operator
    await operator.ask("download", bucket="models", key=key, download_id="r")
    await operator.progress("r", lambda d: d["progress"] > 30)
    if how == "in one piece":
        content = random.Random(key).randbytes(size)
        await object_server.put(key, content)
        new = hashlib.sha256(content).hexdigest()
    else:
        new = await object_server.make(key, 17 * MiB)
    bench.link.thaw()
    completed = await operator.event("download_completed", "r")
    assert sha256(bench.downloads / key.rpartition("/")[2]) == new
    assert completed["files"] == 1
    assert operator.events("r") == BEGUN_AND_DONE
    notice = await change_told(bench)
    assert notice["download_id"] == "r"
    assert notice["level"] == "warning"
    assert f"s3://models/{key} changed" in notice["message"]
    assert bench.leftovers() == []


@pytest.mark.parametrize("restarts", [False, True])
async def test_only_the_object_replaced_meanwhile_is_fetched_again(
    bench: Bench, object_server: ObjectServer, restarts: bool
) -> None:
    prefix = f"replaced-among/{restarts}/"
    steady = [await object_server.make(f"{prefix}steady-{n}", 8 * MiB) for n in range(2)]
    await object_server.make(f"{prefix}moving", 10 * MiB)
    bench.link.freeze_after(14 * MiB)
    operator = bench.operator
    await operator.ask(
        "download", bucket="models", key=prefix, download_id="r", numworkers=6, concurrency=2
    )
    await operator.progress("r", lambda d: d["progress"] > 40)
    content = random.Random(prefix).randbytes(10 * MiB)
    if restarts:
        assert await bench.device.terminate() == 0
    await object_server.put(f"{prefix}moving", content)
    bench.link.thaw()
    if restarts:
        await bench.device.start()
    completed = await operator.event("download_completed", "r")
    assert (bench.downloads / "moving").read_bytes() == content
    assert [sha256(bench.downloads / f"steady-{n}") for n in range(2)] == steady
    assert (completed["files"], completed["bytes"]) == (3, 26 * MiB)
    assert operator.events("r") == BEGUN_AND_DONE
    notice = await change_told(bench)
    assert notice["error_details"] == {"key": f"{prefix}moving", "objects": 1}
    assert bench.link.bytes_down < (26 + 10 + 1) * MiB, "the others were fetched again"
    assert bench.leftovers() == []
