"""Components of one device exchange messages."""

from __future__ import annotations

import pytest
from awsiot.greengrasscoreipc.model import (
    BinaryMessage,
    InvalidArgumentsError,
    JsonMessage,
    PublishMessage,
    ReceiveMode,
    UnauthorizedError,
)

from sandbox.nucleus import Nucleus
from tests.nucleus.support import Component, policies
from tests.support import eventually

PUBSUB = "aws.greengrass.ipc.pubsub"
BOTH = ["PublishToTopic", "SubscribeToTopic"]


def binary(payload: bytes) -> PublishMessage:
    return PublishMessage(binary_message=BinaryMessage(message=payload))


async def test_json_and_binary_reach_other_components(nucleus: Nucleus) -> None:
    nucleus.register("a", policies(PUBSUB, BOTH, ["*"]))
    nucleus.register("b", policies(PUBSUB, BOTH, ["*"]))
    async with (
        Component(nucleus.component_environment("a")) as a,
        Component(nucleus.component_environment("b")) as b,
    ):
        subscription = await b.subscribe("subscribe_to_topic", topic="t/+")
        json_message = PublishMessage(json_message=JsonMessage(message={"x": [1, None]}))
        await a.call("publish_to_topic", topic="t/json", publish_message=json_message)
        await a.call("publish_to_topic", topic="t/x/y", publish_message=binary(b"not for b"))
        await a.call("publish_to_topic", topic="t/binary", publish_message=binary(b"\x00\xff"))
        await eventually(lambda: len(subscription.events) == 2)
        first, second = subscription.events
        assert first.json_message.message == {"x": [1, None]}
        assert first.json_message.context.topic == "t/json"
        assert second.binary_message.message == b"\x00\xff"

        await subscription.close()
        await a.call("publish_to_topic", topic="t/late", publish_message=binary(b""))
        assert len(subscription.events) == 2


async def test_own_messages_come_back_unless_others_only(nucleus: Nucleus) -> None:
    nucleus.register("a", policies(PUBSUB, BOTH, ["*"]))
    async with Component(nucleus.component_environment("a")) as a:
        plain = await a.subscribe("subscribe_to_topic", topic="t")
        wildcard = await a.subscribe("subscribe_to_topic", topic="#")
        every = await a.subscribe(
            "subscribe_to_topic", topic="#", receive_mode=ReceiveMode.RECEIVE_ALL_MESSAGES
        )
        await a.call("publish_to_topic", topic="t", publish_message=binary(b""))
        await eventually(lambda: plain.events and every.events)
        assert wildcard.events == []


async def test_refusals(nucleus: Nucleus) -> None:
    nucleus.register("a", policies(PUBSUB, ["PublishToTopic"], ["t/*"]))
    async with Component(nucleus.component_environment("a")) as a:
        with pytest.raises(UnauthorizedError):
            await a.call("publish_to_topic", topic="other", publish_message=binary(b""))
        with pytest.raises(UnauthorizedError):
            await a.subscribe("subscribe_to_topic", topic="t/x")
        with pytest.raises(InvalidArgumentsError):
            await a.call("publish_to_topic", topic="t/#", publish_message=binary(b""))
