"""The nucleus while the broker is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import pytest
from awsiot.greengrasscoreipc.model import ServiceError

from sandbox.link import Link
from sandbox.nucleus import Nucleus
from sandbox.processes import free_ports
from sandbox.servers import Broker
from sandbox.shadow_service import ShadowService
from sandbox.shadows import ShadowDocuments
from tests.nucleus.support import Component, policies
from tests.support import PATIENCE, eventually

ACCESS = policies("aws.greengrass.ipc.mqttproxy", ["PublishToIoTCore", "SubscribeToIoTCore"], ["*"])


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker that a test may stop."""
    async with Broker(tmp_path / "broker") as broker:
        yield broker


async def go_offline(nucleus: Nucleus, broker: Broker) -> None:
    await broker.stop()
    await nucleus.iot_core.wait_offline()


async def come_back(nucleus: Nucleus, broker: Broker) -> None:
    await broker.start()
    await asyncio.wait_for(nucleus.iot_core.wait_online(), PATIENCE)


async def test_subscriptions_come_back_with_the_broker(nucleus: Nucleus, broker: Broker) -> None:
    nucleus.register("a", ACCESS)
    async with Component(nucleus.component_environment("a")) as component:
        before = await component.subscribe("subscribe_to_iot_core", topic_name="t/+", qos="1")
        await go_offline(nucleus, broker)
        meanwhile = await component.subscribe("subscribe_to_iot_core", topic_name="t/x", qos="1")
        await come_back(nucleus, broker)
        async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
            await cloud.publish("t/x", b"1", qos=1)
        await eventually(lambda: len(before.events) == len(meanwhile.events) == 1)


async def test_java_spools_qos_1_and_drops_qos_0(nucleus: Nucleus, broker: Broker) -> None:
    nucleus.register("a", ACCESS)
    async with Component(nucleus.component_environment("a")) as component:
        stream = await component.subscribe("subscribe_to_iot_core", topic_name="t", qos="1")
        await go_offline(nucleus, broker)
        with pytest.raises(ServiceError):
            await component.call("publish_to_iot_core", topic_name="t", qos="0", payload=b"0")
        for payload in (b"1", b"2", b"3"):
            await component.call("publish_to_iot_core", topic_name="t", qos="1", payload=payload)
        await come_back(nucleus, broker)
        await eventually(lambda: len(stream.events) == 3)
        assert [event.message.payload for event in stream.events] == [b"1", b"2", b"3"]


async def test_the_spool_of_java_can_fill_up(nucleus: Nucleus, broker: Broker) -> None:
    nucleus.register("a", ACCESS)
    async with Component(nucleus.component_environment("a")) as component:
        await go_offline(nucleus, broker)
        publish = {"topic_name": "t", "qos": "1", "payload": bytes(128 * 1024)}
        for _ in range(20):
            await component.call("publish_to_iot_core", **publish)
        with pytest.raises(ServiceError):
            await component.call("publish_to_iot_core", **publish)


@pytest.mark.parametrize("qos", ["0", "1"])
async def test_lite_fails_at_once(lite: Nucleus, broker: Broker, qos: Literal["0", "1"]) -> None:
    lite.register("a", ACCESS)
    async with Component(lite.component_environment("a")) as component:
        publish = {"topic_name": "t", "qos": qos, "payload": b""}
        await go_offline(lite, broker)
        with pytest.raises(ServiceError) as error:
            await component.call("publish_to_iot_core", **publish)
        assert error.value.message is None
        await come_back(lite, broker)
        await component.call("publish_to_iot_core", **publish)


async def test_lite_refuses_subscriptions_offline(lite: Nucleus, broker: Broker) -> None:
    lite.register("a", ACCESS)
    async with Component(lite.component_environment("a")) as component:
        subscribe = {"topic_name": "t", "qos": "1"}
        before = await component.subscribe("subscribe_to_iot_core", topic_name="before", qos="1")
        await go_offline(lite, broker)
        with pytest.raises(ServiceError):
            await component.subscribe("subscribe_to_iot_core", **subscribe)
        await come_back(lite, broker)
        after = await component.subscribe("subscribe_to_iot_core", **subscribe)
        for topic in ("t", "before"):
            await component.call("publish_to_iot_core", topic_name=topic, qos="1", payload=b"")
        await eventually(lambda: len(before.events) == len(after.events) == 1)


@pytest.fixture
async def link(broker: Broker) -> AsyncIterator[Link]:
    async with Link(broker.port) as link:
        yield link


@pytest.fixture
async def distant(link: Link, tmp_path: Path) -> AsyncIterator[Nucleus]:
    """A nucleus lite with a component "a", which connects to its broker over the link."""
    async with Nucleus(
        thing_name="dev-01", directory=tmp_path, broker_port=link.port, personality="lite"
    ) as nucleus:
        nucleus.register("a", ACCESS)
        yield nucleus


async def publish_until_refused(component: Component, size: int) -> set[asyncio.Task[Any]]:
    """Publish messages of `size` bytes at once until one is refused; return the pending calls."""
    publish = {"topic_name": "t", "qos": "1", "payload": bytes(size)}
    calls = [
        asyncio.create_task(component.call("publish_to_iot_core", **publish)) for _ in range(11)
    ]
    waiting: set[asyncio.Task[Any]] = set(calls)
    refused: set[asyncio.Task[Any]] = set()
    while len(waiting) * size > 15_000 or len(waiting) > 10:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        refused |= done
    assert {type(call.exception()) for call in refused} == {ServiceError}
    return waiting


@pytest.mark.parametrize(("size", "count"), [(10, 10), (5000, 3)])
async def test_lite_holds_ten_unacknowledged_messages_or_15_kb(
    distant: Nucleus, link: Link, size: int, count: int
) -> None:
    async with Component(distant.component_environment("a")) as component:
        link.freeze()
        waiting = await publish_until_refused(component, size)
        assert len(waiting) == count
        link.thaw()
        await asyncio.gather(*waiting)


async def test_no_publish_hangs_when_the_broker_goes_under_it(distant: Nucleus, link: Link) -> None:
    async with Component(distant.component_environment("a")) as component:
        link.freeze()
        waiting = await publish_until_refused(component, 10)
        link.cut()
        results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE)
        assert {type(result) for result in results} == {ServiceError}


async def test_the_shadow_service_comes_back_with_the_broker(broker: Broker) -> None:
    async with ShadowService(ShadowDocuments(), broker.port) as service:
        await broker.stop()
        await broker.start()
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe("$aws/things/dev-01/shadow/get/rejected", qos=1)
            await asyncio.wait_for(service.wait_online(), PATIENCE)
            await client.publish("$aws/things/dev-01/shadow/get", b"", qos=1)
            await asyncio.wait_for(anext(client.messages), PATIENCE)


async def test_a_nucleus_without_a_broker_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.mqtt._CONNECT_WITHIN", 0.2)
    nucleus = Nucleus(thing_name="dev-01", directory=tmp_path, broker_port=free_ports(1)[0])
    with pytest.raises(ConnectionError, match="no MQTT broker answers on 127"):
        await nucleus.__aenter__()
