"""A full disk is reported; nothing is lost, and the download continues once there is space."""

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


def put_on_disk(bench: Bench, place: Path, size: int) -> None:
    """Mount a small disk at `place`, which only the device sees when it runs."""
    place.mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o size={size} none {shlex.quote(str(place))}"
    assert isinstance(bench.device, MqttDevice)
    bench.device.wrapper = [*PRIVATE_MOUNTS, "sh", "-c", f'{mount} && exec "$@"', "sh"]


@pytest.fixture
async def small(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A device with its downloads on a disk of 24 MiB, which only it sees."""
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        put_on_disk(bench, bench.downloads, DISK)
        await bench.device.start()
        await bench.up()
        bench.downloads = Path(f"/proc/{bench.device.pid}/root{bench.downloads}")
        yield bench


async def test_a_disk_that_fills_up_is_told_and_what_is_there_is_kept(
    small: Bench, object_server: ObjectServer
) -> None:
    sums = {name: await object_server.make(f"full/{name}", 10 * MiB) for name in "ab"}
    small.link.freeze_after(6 * MiB)
    operator = small.operator
    await operator.ask("download", bucket="models", key="full/", download_id="d", numworkers=1)
    await operator.progress("d", lambda d: d["progress"] > 10)
    log = small.downloads / "somebody's.log"
    with pytest.raises(OSError, match="No space"):
        log.write_bytes(bytes(DISK))
    small.link.thaw()
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
    await operator.ask("resume", download_id="d")
    completed = await operator.event("download_completed", "d")
    assert (completed["files"], completed["bytes"]) == (2, 20 * MiB)
    assert {name: sha256(small.downloads / name) for name in sums} == sums
    assert small.link.bytes_down <= (20 + 1 + 1) * MiB
    assert small.leftovers() == []


async def test_on_a_full_state_disk_it_answers_what_changes_nothing(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        state, operator = bench.device.directory / "state", bench.operator
        put_on_disk(bench, state, MiB)
        await bench.device.start()
        await bench.up()
        await operator.ask("model_add", model_meta={"model_id": "m", "model_version": "0"})
        filler = Path(f"/proc/{bench.device.pid}/root{state}") / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(MiB))
        recorded = "0"
        for version in map(str, range(1, 20)):  # the first may fit
            meta = {"model_id": "m", "model_version": version}
            response = await operator.ask("model_add", model_meta=meta)
            recorded = version if response["success"] else recorded
        assert response["error_code"] == "disk_full"
        for command in ("list", "status", "disk_space", "limits", "model_list"):
            assert (await operator.ask(command))["success"], command
        found = await operator.ask("model_get", model_id="m")
        assert found["model"]["model_version"] == recorded

        filler.unlink()
        assert (await operator.ask("model_delete", model_id="m"))["success"]
        assert await bench.device.terminate() == 0
