"""The consumer beside the downloader: it always has the complete model of the shadow open."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.device import component_recipe
from sandbox.nucleus import Nucleus, RunningComponent, run_component
from sandbox.servers import Broker, ObjectServer
from tools.project import ROOT

from ..e2e.conftest import Bench
from ..support import eventually

CONSUMER = "aws.samples.ModelConsumer"
SOURCE = ROOT / "examples" / "model_consumer"
NAMES = ["config.json", "weights/0", "weights/1"]


class Consumer:
    """The running example."""

    def __init__(self, running: RunningComponent) -> None:
        self.running = running

    @property
    def log(self) -> str:
        return self.running.log.read_text()

    def opened(self) -> list[dict[str, Any]]:
        """Return what the consumer has logged about opened models, in order."""
        lines = (line.partition(" INFO opened ")[2] for line in self.log.splitlines())
        return [json.loads(line) for line in lines if line]

    async def has_opened(self, *versions: str) -> None:
        """Wait until the consumer has opened these versions, in order."""
        await eventually(lambda: len(self.opened()) >= len(versions))
        assert [opened["version"] for opened in self.opened()] == list(versions)

    async def has_logged(self, sentence: str) -> None:
        await eventually(lambda: sentence in self.log)


async def start(nucleus: Nucleus, directory: Path) -> Consumer:
    """Start the example by its recipe, in the Python environment of this process; return it."""
    recipe = component_recipe(SOURCE, CONSUMER)
    nucleus.register(CONSUMER, recipe.access_control, {**recipe.configuration, "ModelId": "m"})
    (directory / "consumer").mkdir()
    (directory / "consumer" / "main-artifact").symlink_to(SOURCE)
    (nucleus.work_folder(CONSUMER) / "venv").symlink_to(sys.prefix)
    return Consumer(await run_component(nucleus, recipe, artifacts=directory / "consumer"))


@pytest.fixture
async def consumer(greengrass: Bench, tmp_path: Path) -> AsyncIterator[Consumer]:
    """The example consumer, started before the downloader has any model."""
    assert greengrass.nucleus is not None
    consumer = await start(greengrass.nucleus, tmp_path)
    await consumer.has_logged("the shadow has no model m")
    yield consumer
    await consumer.running.stop()


def content(version: str, name: str) -> bytes:
    return f"{version} of {name}\n".encode() * 50_000


def files_of(version: str) -> dict[str, Any]:
    """Return what the consumer must log about the files of a version."""
    read = {}
    for name in NAMES:
        data = content(version, name)
        read[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return read


async def publish(bench: Bench, server: ObjectServer, version: str) -> None:
    """Write a version to the bucket, and replace the model by it."""
    for name in NAMES:
        await server.put(f"consumed/{version}/{name}", content(version, name))
    await bench.operator.ask(
        "download",
        bucket="models",
        key=f"consumed/{version}/",
        destination=f"{bench.downloads}/m",
        publish="replace",
        download_id=version,
        model_meta={"model_id": "m", "model_version": version},
    )
    await bench.operator.event("download_completed", version)


async def test_it_follows_replacements_and_rollback_without_a_restart(
    greengrass: Bench, consumer: Consumer, object_server: ObjectServer
) -> None:
    await publish(greengrass, object_server, "v1")
    await consumer.has_opened("v1")
    await publish(greengrass, object_server, "v2")
    await consumer.has_opened("v1", "v2")
    response = await greengrass.operator.ask("model_rollback", model_id="m")
    assert response["success"]
    await consumer.has_opened("v1", "v2", "v1")
    for opened in consumer.opened():
        assert opened["model_id"] == "m"
        assert opened["local_path"] == f"{greengrass.downloads}/m"
        assert opened["files"] == files_of(opened["version"])
    assert consumer.running.returncode is None


async def test_however_fast_versions_follow_it_never_has_a_mixture(
    greengrass: Bench, consumer: Consumer, object_server: ObjectServer
) -> None:
    versions = [f"v{n}" for n in range(8)]
    for version in versions:
        await publish(greengrass, object_server, version)
    await eventually(lambda: [o["version"] for o in consumer.opened()][-1:] == versions[-1:])
    whole = [files_of(version) for version in versions]
    assert all(opened["files"] in whole for opened in consumer.opened())
    assert consumer.opened()[-1]["files"] == whole[-1]


async def test_it_lets_go_of_a_model_that_is_deleted(
    greengrass: Bench, consumer: Consumer, object_server: ObjectServer
) -> None:
    await publish(greengrass, object_server, "v1")
    await consumer.has_opened("v1")
    await greengrass.operator.ask("model_delete", model_id="m")
    await consumer.has_logged("closed m v1")


async def test_it_waits_for_a_model_that_is_named_and_not_there(
    greengrass: Bench, consumer: Consumer
) -> None:
    place = greengrass.downloads / "late.bin"
    await greengrass.operator.ask(
        "model_add",
        model_meta={"model_id": "m", "model_version": "1", "local_path": str(place)},
    )
    await consumer.has_logged("m 1 cannot be opened yet")
    place.write_bytes(b"there")
    await consumer.has_opened("1")
    assert list(consumer.opened()[0]["files"]) == ["late.bin"]


async def test_what_is_open_serves_until_the_next_is_there(
    greengrass: Bench, consumer: Consumer, object_server: ObjectServer
) -> None:
    await publish(greengrass, object_server, "v1")
    await consumer.has_opened("v1")
    meta = {"model_id": "m", "model_version": "v2", "local_path": "/nowhere"}
    await greengrass.operator.ask("model_add", model_meta=meta)
    await consumer.has_logged("m v2 cannot be opened yet")
    assert "closed m v1" not in consumer.log


async def test_another_model_is_chosen_without_a_restart(
    greengrass: Bench, consumer: Consumer, object_server: ObjectServer
) -> None:
    assert greengrass.nucleus is not None
    await publish(greengrass, object_server, "v1")
    await consumer.has_opened("v1")
    meta = {"model_id": "n", "model_version": "7", "local_path": f"{greengrass.downloads}/m"}
    await greengrass.operator.ask("model_add", model_meta=meta)
    greengrass.nucleus.set_configuration(CONSUMER, {"ModelId": "n"})
    await consumer.has_opened("v1", "7")
    assert consumer.opened()[1]["model_id"] == "n"


async def test_a_lost_nucleus_ends_it_so_that_it_is_started_again(
    greengrass: Bench, consumer: Consumer
) -> None:
    assert greengrass.nucleus is not None
    await greengrass.nucleus.drop_connection(CONSUMER)
    assert await consumer.running.wait() == 1
    assert "the connection to the nucleus is lost" in consumer.log


async def test_with_no_shadow_service_it_says_so_and_goes_on(
    tmp_path: Path, broker: Broker
) -> None:
    async with Nucleus(
        thing_name="lite", directory=tmp_path, broker_port=broker.port, personality="lite"
    ) as nucleus:
        consumer = await start(nucleus, tmp_path)
        await consumer.has_logged("no ShadowManager answers")
        assert consumer.running.returncode is None
        await consumer.running.stop()
