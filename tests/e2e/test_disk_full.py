"""The disk fills up in mid-download: told, nothing lost, and completed once there is space."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.device import MqttDevice
from sandbox.servers import Broker, ObjectServer

from ..support import PRIVATE_MOUNTS, eventually
from .conftest import Bench, make_bench, sha256

MiB = 1 << 20
DISK = 24 * MiB


@pytest.fixture
async def small(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A device whose downloads lie on a disk of 24 MiB that it alone sees."""
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        mount = f"mount -t tmpfs -o size={DISK} none {shlex.quote(str(bench.downloads))}"
        assert isinstance(bench.device, MqttDevice)
        bench.device.wrapper = [*PRIVATE_MOUNTS, "sh", "-c", f'{mount} && exec "$@"', "sh"]
        await bench.device.start()
        await bench.up()
        bench.downloads = Path(f"/proc/{bench.device.pid}/root{bench.downloads}")
        yield bench


async def test_a_disk_that_fills_up_is_told_and_what_is_there_is_kept(
    small: Bench, object_server: ObjectServer
) -> None:
    sums = {name: await object_server.make(f"full/{name}", 10 * MiB) for name in "ab"}
    small.link.rate = 8 * MiB
    operator = small.operator
    await operator.ask("download", bucket="models", key="full/", download_id="d", numworkers=1)
    await operator.progress("d", lambda d: d["progress"] > 10)
    log = small.downloads / "somebody's.log"
    with pytest.raises(OSError, match="No space"):
        log.write_bytes(bytes(DISK))
    error = await operator.event("download_error", "d")
    assert error["error_code"] == "disk_full"
    assert "free some space" in error["error"]
    failed = await operator.progress("d", lambda d: d["status"] == "failed")
    assert failed["progress"] > 10
    space = (await operator.ask("disk_space"))["disk_space"]
    assert space["free"] < MiB
    assert (await operator.ask("resume", download_id="d"))["success"]
    await eventually(lambda: operator.events("d").count("download_error") == 2)

    log.unlink()
    small.link.rate = None
    await operator.ask("resume", download_id="d")
    completed = await operator.event("download_completed", "d")
    assert (completed["files"], completed["bytes"]) == (2, 20 * MiB)
    assert {name: sha256(small.downloads / name) for name in sums} == sums
    assert small.link.bytes_down <= (20 + 1 + 1) * MiB
    assert small.leftovers() == []
