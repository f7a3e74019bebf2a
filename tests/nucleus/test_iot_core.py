"""IoT Core over IPC, with the real client, the local nucleus and a real broker."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest
from awsiot.eventstreamrpc import StreamClosedError
from awsiot.greengrasscoreipc.model import ServiceError, UnauthorizedError

from sandbox.nucleus import Nucleus
from sandbox.servers import Broker
from tests.nucleus.support import Component, policies
from tests.support import PATIENCE, eventually

MQTT = "aws.greengrass.ipc.mqttproxy"
BOTH = ["PublishToIoTCore", "SubscribeToIoTCore"]


async def test_a_message_goes_out_and_comes_back(nucleus: Nucleus) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["s3/{iot:thingName}/+"]))
    async with Component(nucleus.component_environment("a")) as component:
        subscription = await component.subscribe(
            "subscribe_to_iot_core", topic_name="s3/dev-01/commands", qos="1"
        )
        payload = bytes(range(256))
        await component.call(
            "publish_to_iot_core", topic_name="s3/dev-01/commands", qos="1", payload=payload
        )
        (event,) = await eventually(lambda: subscription.events)
        assert event.message.topic_name == "s3/dev-01/commands"
        assert event.message.payload == payload


async def test_what_no_policy_allows_is_refused(nucleus: Nucleus) -> None:
    nucleus.register("a", policies(MQTT, ["PublishToIoTCore"], ["s3/{iot:thingName}/responses"]))
    async with Component(nucleus.component_environment("a")) as component:
        with pytest.raises(UnauthorizedError):
            await component.call(
                "publish_to_iot_core", topic_name="s3/dev-02/responses", qos="1", payload=b""
            )
        with pytest.raises(UnauthorizedError):
            await component.subscribe(
                "subscribe_to_iot_core", topic_name="s3/dev-01/responses", qos="1"
            )
        await component.call(
            "publish_to_iot_core", topic_name="s3/dev-01/responses", qos="1", payload=b""
        )


async def test_messages_reach_the_broker_and_come_from_it(nucleus: Nucleus, broker: Broker) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with (
        aiomqtt.Client("127.0.0.1", broker.port) as cloud,
        Component(nucleus.component_environment("a")) as component,
    ):
        await cloud.subscribe("out", qos=1)
        subscription = await component.subscribe(
            "subscribe_to_iot_core", topic_name="in/#", qos="1"
        )
        await component.call("publish_to_iot_core", topic_name="out", qos="1", payload=b"up")
        message = await anext(cloud.messages)
        assert (message.payload, message.qos, message.retain) == (b"up", 1, False)
        await cloud.publish("in/x/y", b"down", qos=1)
        (event,) = await eventually(lambda: subscription.events)
        assert event.message.topic_name == "in/x/y"


async def test_overlapping_subscriptions_get_each_message_once(
    nucleus: Nucleus, broker: Broker
) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with (
        aiomqtt.Client("127.0.0.1", broker.port) as cloud,
        Component(nucleus.component_environment("a")) as component,
    ):
        streams = [
            await component.subscribe("subscribe_to_iot_core", topic_name=topic, qos=qos)
            for topic, qos in (("o/#", "0"), ("o/+", "1"), ("o/#", "1"))
        ]
        await cloud.publish("o/x", b"1", qos=1)
        await cloud.publish("o/x", b"2", qos=1)
        await eventually(lambda: all(len(stream.events) >= 2 for stream in streams))
        for stream in streams:
            assert [event.message.payload for event in stream.events] == [b"1", b"2"]
        await streams[0].close()
        await cloud.publish("o/x", b"3", qos=1)
        await eventually(lambda: all(len(stream.events) == 3 for stream in streams[1:]))
        assert len(streams[0].events) == 2


async def test_lite_delivers_overlapping_subscriptions_twice(lite: Nucleus, broker: Broker) -> None:
    lite.register("a", policies(MQTT, BOTH, ["*"]))
    async with (
        aiomqtt.Client("127.0.0.1", broker.port) as cloud,
        Component(lite.component_environment("a")) as component,
    ):
        wide = await component.subscribe("subscribe_to_iot_core", topic_name="o/#", qos="1")
        await component.subscribe("subscribe_to_iot_core", topic_name="o/+", qos="1")
        await cloud.publish("o/x", b"1", qos=1)
        await eventually(lambda: len(wide.events) == 2)


@pytest.mark.parametrize("topic", ["a/+", "a/b/c/d/e/f/g/h/i", "t" * 257])
async def test_topics_that_iot_core_would_not_take_are_refused(
    nucleus: Nucleus, topic: str
) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with Component(nucleus.component_environment("a")) as component:
        with pytest.raises(ServiceError):
            await component.call("publish_to_iot_core", topic_name=topic, qos="1", payload=b"")


async def test_a_malformed_topic_filter_is_refused(nucleus: Nucleus) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with Component(nucleus.component_environment("a")) as component:
        with pytest.raises(ServiceError):
            await component.subscribe("subscribe_to_iot_core", topic_name="a/#/b", qos="1")


async def test_java_takes_128_kib_and_no_more(nucleus: Nucleus, broker: Broker) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with Component(nucleus.component_environment("a")) as component:
        stream = await component.subscribe("subscribe_to_iot_core", topic_name="big", qos="1")
        publish = {"topic_name": "big", "qos": "1"}
        await component.call("publish_to_iot_core", **publish, payload=bytes(131_072))
        (event,) = await eventually(lambda: stream.events)
        assert len(event.message.payload) == 131_072
        with pytest.raises(ServiceError):
            await component.call("publish_to_iot_core", **publish, payload=bytes(131_073))


@pytest.mark.parametrize(
    ("topic", "works", "cuts"),
    [("s3downloader/dev-01/responses", 7_250, 7_300), ("t" * 250, 7_080, 7_150)],
)
async def test_lite_drops_the_connection_at_a_large_request(
    lite: Nucleus, topic: str, works: int, cuts: int
) -> None:
    lite.register("a", policies(MQTT, BOTH, ["*"]))
    async with Component(lite.component_environment("a")) as component:
        publish = {"topic_name": topic, "qos": "0"}
        await component.call("publish_to_iot_core", **publish, payload=bytes(works))
        with pytest.raises(StreamClosedError):
            await component.call("publish_to_iot_core", **publish, payload=bytes(cuts))
        await asyncio.wait_for(component.lost.wait(), PATIENCE)


async def test_lite_loses_what_is_over_4960_bytes(lite: Nucleus, broker: Broker) -> None:
    lite.register("a", policies(MQTT, BOTH, ["*"]))
    async with (
        aiomqtt.Client("127.0.0.1", broker.port) as cloud,
        Component(lite.component_environment("a")) as component,
    ):
        stream = await component.subscribe("subscribe_to_iot_core", topic_name="big", qos="1")
        for size in (4961, 4960):
            await cloud.publish("big", bytes(size), qos=1)
        (event,) = await eventually(lambda: stream.events)
        assert len(event.message.payload) == 4960


async def test_faults_of_publishing(nucleus: Nucleus) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with Component(nucleus.component_environment("a")) as component:
        publish = {"topic_name": "t", "qos": "1", "payload": b""}
        nucleus.faults.fail_publishes = True
        with pytest.raises(ServiceError):
            await component.call("publish_to_iot_core", **publish)
        nucleus.faults.fail_publishes = False
        nucleus.faults.ack_delay = 0.2
        loop = asyncio.get_running_loop()
        start = loop.time()
        await component.call("publish_to_iot_core", **publish)
        assert loop.time() - start >= 0.2


async def test_subscriptions_can_die_silently(nucleus: Nucleus, broker: Broker) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with (
        aiomqtt.Client("127.0.0.1", broker.port) as cloud,
        Component(nucleus.component_environment("a")) as component,
    ):
        dead = await component.subscribe("subscribe_to_iot_core", topic_name="t", qos="1")
        await nucleus.forget_subscriptions()
        await cloud.publish("t", b"lost", qos=1)
        alive = await component.subscribe("subscribe_to_iot_core", topic_name="t", qos="1")
        await cloud.publish("t", b"found", qos=1)
        (event,) = await eventually(lambda: alive.events)
        assert event.message.payload == b"found"
        assert dead.events == []
        assert not dead.closed.is_set()
        await dead.close()
        await cloud.publish("t", b"again", qos=1)
        await eventually(lambda: len(alive.events) == 2)


async def test_who_subscribes_while_others_die_stays_alive(
    nucleus: Nucleus, broker: Broker
) -> None:
    received: list[bytes] = []
    for topic in ("first", "second"):
        await nucleus.iot_core.subscribe(topic, lambda *_: None, qos=1)
    dying = asyncio.create_task(nucleus.forget_subscriptions())
    await asyncio.sleep(0)  # now it waits until the first one is gone at the broker
    await nucleus.iot_core.subscribe("second", lambda _, payload: received.append(payload), qos=1)
    await dying
    async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
        await cloud.publish("second", b"1", qos=1)
    await eventually(lambda: received)


async def test_a_message_can_be_retained(nucleus: Nucleus, broker: Broker) -> None:
    nucleus.register("a", policies(MQTT, BOTH, ["*"]))
    async with Component(nucleus.component_environment("a")) as component:
        publish = {"topic_name": "retained", "qos": "1", "retain": True}
        await component.call("publish_to_iot_core", **publish, payload=b"kept")
        async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
            await cloud.subscribe("retained", qos=1)
            message = await asyncio.wait_for(anext(cloud.messages), PATIENCE)
            assert message.payload == b"kept"
        await component.call("publish_to_iot_core", **publish, payload=b"")  # end it again
