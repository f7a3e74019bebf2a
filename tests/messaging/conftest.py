"""Pairs of connected clients for each kind of messaging."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from s3downloader.messaging.bus import IOT_CORE_MAX_PAYLOAD, Bus
from s3downloader.messaging.greengrass.bus import GreengrassBus
from s3downloader.messaging.greengrass.ipc import IpcClient
from s3downloader.messaging.greengrass.message_sizes import MAX_PAYLOAD, MessageSizes
from s3downloader.messaging.mqtt.bus import MqttBus
from sandbox.nucleus import Nucleus
from sandbox.nucleus.personality import PERSONALITIES
from sandbox.servers import Broker
from sandbox.shadows import ShadowDocuments

from .memory import Hub, MemoryBus

COMPONENT = "com.example.Component"
THING = "thing"

StartNucleus = Callable[..., AbstractAsyncContextManager[Nucleus]]


@dataclass
class Pair:
    """The bus under test and another bus, with the largest payloads of each direction in bytes."""

    bus: Bus
    peer: Bus
    max_sent: int
    max_received: int


@pytest.fixture
def prefix() -> str:
    """A topic prefix that no other test uses."""
    return uuid.uuid4().hex[:8]


@pytest.fixture
def start_nucleus(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartNucleus:
    """A function that starts a nucleus with COMPONENT; this process becomes that component.

    Further arguments of the function replace attributes of the personality.
    """

    @asynccontextmanager
    async def start(
        personality: Literal["java", "lite"] = "java",
        *,
        broker: Broker = broker,
        access: dict[str, Any] | None = None,
        configuration: dict[str, Any] | None = None,
        shadows: ShadowDocuments | None = None,
        **habits: Any,
    ) -> AsyncIterator[Nucleus]:
        async with Nucleus(
            thing_name=THING,
            directory=tmp_path,
            broker_port=broker.port,
            personality=dataclasses.replace(PERSONALITIES[personality], **habits),
            shadows=shadows,
        ) as nucleus:
            nucleus.register(
                COMPONENT, access_control=access or allow_all(), configuration=configuration
            )
            for name, value in nucleus.component_environment(COMPONENT).items():
                monkeypatch.setenv(name, value)
            yield nucleus

    return start


def allow_all() -> dict[str, Any]:
    """Return an accessControl that allows everything that the tests use."""
    return {
        service: {"policy": {"operations": ["*"], "resources": ["*"]}}
        for service in (
            "aws.greengrass.ipc.mqttproxy",
            "aws.greengrass.ipc.pubsub",
            "aws.greengrass.ShadowManager",
        )
    }


@pytest.fixture(params=["memory", "mqtt", "java", "lite"])
async def pair(
    request: pytest.FixtureRequest, broker: Broker, prefix: str, start_nucleus: StartNucleus
) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            hub = Hub()
            bus: Bus = await stack.enter_async_context(MemoryBus(hub))
            peer: Bus = await stack.enter_async_context(MemoryBus(hub))
            yield Pair(bus, peer, IOT_CORE_MAX_PAYLOAD, IOT_CORE_MAX_PAYLOAD)
            return
        peer = await stack.enter_async_context(MqttBus(broker.url, f"{prefix}-peer"))
        if request.param == "mqtt":
            bus = await stack.enter_async_context(MqttBus(broker.url, f"{prefix}-bus"))
            yield Pair(bus, peer, IOT_CORE_MAX_PAYLOAD, IOT_CORE_MAX_PAYLOAD)
            return
        lite = request.param == "lite"
        nucleus = await stack.enter_async_context(start_nucleus(request.param))
        ipc = await stack.enter_async_context(IpcClient())
        max_sent = MAX_PAYLOAD if lite else IOT_CORE_MAX_PAYLOAD
        bus = await stack.enter_async_context(
            GreengrassBus(ipc, sizes=MessageSizes(lambda: max_sent))
        )
        yield Pair(bus, peer, max_sent, nucleus.personality.max_receive)
