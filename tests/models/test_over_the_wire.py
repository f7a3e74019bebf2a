"""The registry and the shadow service, with real messaging between them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import ErrorCode
from s3downloader.messaging.greengrass.ipc import IpcClient
from s3downloader.messaging.greengrass.shadow import IpcShadow
from s3downloader.messaging.mqtt.bus import MqttBus
from s3downloader.messaging.shadow_topics import TopicShadow
from sandbox.nucleus import Nucleus
from sandbox.servers import Broker
from sandbox.shadow_service import ShadowService
from tests.support import eventually

from .registry_env import NAME, THING, Device

COMPONENT = "com.example.Component"
ACCESS = {
    service: {"policy": {"operations": ["*"], "resources": ["*"]}}
    for service in ("aws.greengrass.ipc.pubsub", "aws.greengrass.ShadowManager")
}


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path / "disk")
    device.time = SystemClock()
    return device


@pytest.fixture(params=["mqtt", "ipc"])
async def connected(
    request: pytest.FixtureRequest,
    device: Device,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Device]:
    """The device with a shadow over MQTT's reserved topics, or over IPC."""
    if request.param == "mqtt":
        async with (
            ShadowService(device.service, broker.port),
            MqttBus(broker.url, uuid.uuid4().hex) as bus,
        ):
            device.way = TopicShadow(bus, THING, NAME)
            yield device
        return
    async with Nucleus(
        thing_name=THING, directory=tmp_path, broker_port=broker.port, shadows=device.service
    ) as nucleus:
        nucleus.register(COMPONENT, access_control=ACCESS)
        for name, value in nucleus.component_environment(COMPONENT).items():
            monkeypatch.setenv(name, value)
        async with IpcClient() as ipc:
            device.way = IpcShadow(ipc, THING, NAME)
            yield device


async def test_both_sides_meet(connected: Device) -> None:
    device = connected
    async with device.started() as registry:
        for n in range(5):
            await registry.add({"model_id": f"m{n}", "note": "x" * 900})
        await eventually(lambda: device.follows(registry))
        device.write(reported={"models": {"m0": None, "m1": {"note": "theirs"}}})
        device.write(desired={"models": {"m5": {"model_name": "wished for"}}})
        await registry.delete("m2")
        await eventually(lambda: "m5" in device.reported() and device.follows(registry))
        assert [model["model_id"] for model in registry.models()] == ["m1", "m3", "m4", "m5"]
        assert registry.get("m1")["note"] == "theirs"
    assert device.warnings == []


async def test_the_service_has_no_room(connected: Device) -> None:
    device = connected
    device.service.max_bytes = 500
    async with device.started() as registry:
        await registry.add({"model_id": "large", "note": "x" * 500})
        await eventually(lambda: device.warnings)
        assert [code for code, _ in device.warnings] == [ErrorCode.REGISTRY_FULL]
        await registry.add({"model_id": "large", "note": None})
        await eventually(lambda: device.follows(registry))


async def test_a_broker_without_a_shadow_service(device: Device, broker: Broker) -> None:
    async with MqttBus(broker.url, uuid.uuid4().hex) as bus:
        device.way = TopicShadow(bus, THING, NAME, response_timeout=0.5)
        async with device.started() as registry:
            await registry.add({"model_id": "m"})
            await eventually(lambda: device.warnings)
            async with ShadowService(device.service, broker.port) as service:
                await service.wait_online()
                await eventually(lambda: device.follows(registry))
        assert [code for code, _ in device.warnings] == [ErrorCode.SHADOW_UNAVAILABLE]
