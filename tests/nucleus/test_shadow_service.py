"""The shadow service on the reserved topics of a real broker."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiomqtt
import awscrt.mqtt5
import pytest
from awscrt.mqtt_request_response import ClientOptions
from awsiot import V2ServiceException, iotshadow

from sandbox.servers import Broker
from sandbox.shadow_service import ShadowService
from sandbox.shadows import ShadowDocuments
from tests.support import PATIENCE

PREFIX = "$aws/things/dev-02/shadow/name/models"


@pytest.fixture
async def shadows(broker: Broker) -> AsyncIterator[ShadowDocuments]:
    shadows = ShadowDocuments(clock=lambda: 1000.0)
    async with ShadowService(shadows, broker.port):
        yield shadows


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for topic in ("get", "update", "delete"):
            await client.subscribe(f"{PREFIX}/{topic}/+", qos=1)
        yield client


async def answer(client: aiomqtt.Client) -> tuple[str, Any]:
    message = await asyncio.wait_for(anext(client.messages), PATIENCE)
    return message.topic.value.removeprefix(f"{PREFIX}/"), json.loads(message.payload)


async def test_update_get_delete(shadows: ShadowDocuments, client: aiomqtt.Client) -> None:
    request = {"state": {"desired": {"a": 1}}, "clientToken": "t"}
    await client.publish(f"{PREFIX}/update", json.dumps(request), qos=1)
    answers = dict([await answer(client) for _ in range(3)])
    assert list(answers) == ["update/accepted", "update/delta", "update/documents"]
    assert answers["update/accepted"]["clientToken"] == "t"

    await client.publish(f"{PREFIX}/get", b"", qos=1)
    topic, document = await answer(client)
    assert topic == "get/accepted"
    assert document == shadows.get("dev-02", "models")

    await client.publish(f"{PREFIX}/delete", b"", qos=1)
    assert await answer(client) == ("delete/accepted", {"version": 1, "timestamp": 1000})


async def test_refusals_come_on_rejected(shadows: ShadowDocuments, client: aiomqtt.Client) -> None:
    await client.publish(f"{PREFIX}/get", b'{"clientToken": "t"}', qos=1)
    assert await answer(client) == (
        "get/rejected",
        {
            "code": 404,
            "message": "No shadow exists with name: models",
            "timestamp": 1000,
            "clientToken": "t",
        },
    )
    await client.publish(f"{PREFIX}/update", b"{", qos=1)
    topic, document = await answer(client)
    assert (topic, document["code"]) == ("update/rejected", 400)
    await client.publish(f"{PREFIX}/delete", b"", qos=1)
    topic, document = await answer(client)
    assert (topic, document["code"]) == ("delete/rejected", 404)


async def test_what_others_change_is_published_too(
    shadows: ShadowDocuments, client: aiomqtt.Client
) -> None:
    shadows.update("dev-02", "models", b'{"state": {"reported": {"a": 1}}}')
    assert [(await answer(client))[0] for _ in range(2)] == ["update/accepted", "update/documents"]


async def test_the_classic_shadow_has_topics_without_a_name(
    shadows: ShadowDocuments, broker: Broker
) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        prefix = "$aws/things/dev-02/shadow"
        await client.subscribe(f"{prefix}/update/accepted", qos=1)
        await client.publish(f"{prefix}/update", b'{"state": {"reported": {"a": 1}}}', qos=1)
        await asyncio.wait_for(anext(client.messages), PATIENCE)
        assert shadows.get("dev-02", "")["state"] == {"reported": {"a": 1}}


@pytest.fixture
async def sdk(
    shadows: ShadowDocuments, broker: Broker
) -> AsyncIterator[iotshadow.IotShadowClientV2]:
    """The shadow client of awsiotsdk."""
    connected, stopped = threading.Event(), threading.Event()
    mqtt = awscrt.mqtt5.Client(
        awscrt.mqtt5.ClientOptions(
            host_name="127.0.0.1",
            port=broker.port,
            on_lifecycle_event_connection_success_fn=lambda _: connected.set(),
            on_lifecycle_event_stopped_fn=lambda _: stopped.set(),
        )
    )
    mqtt.start()
    assert await asyncio.to_thread(connected.wait, 5)
    yield iotshadow.IotShadowClientV2(
        mqtt,
        ClientOptions(
            max_request_response_subscriptions=6,
            max_streaming_subscriptions=1,
            operation_timeout_in_seconds=5,
        ),
    )
    mqtt.stop()
    assert await asyncio.to_thread(stopped.wait, 5)


async def test_the_client_of_the_sdk_understands_every_answer(
    sdk: iotshadow.IotShadowClientV2,
) -> None:
    shadow = {"thing_name": "dev-02", "shadow_name": "models"}
    state = iotshadow.ShadowState(desired={"a": 2}, reported={"a": 1})
    updated = await asyncio.wrap_future(
        sdk.update_named_shadow(iotshadow.UpdateNamedShadowRequest(**shadow, state=state))
    )
    assert (updated.version, updated.state.reported) == (1, {"a": 1})

    read = await asyncio.wrap_future(
        sdk.get_named_shadow(iotshadow.GetNamedShadowRequest(**shadow))
    )
    assert (read.version, read.state.delta) == (1, {"a": 2})

    with pytest.raises(V2ServiceException) as conflict:
        await asyncio.wrap_future(
            sdk.update_named_shadow(
                iotshadow.UpdateNamedShadowRequest(**shadow, state=state, version=5)
            )
        )
    assert conflict.value.modeled_error.code == 409

    deleted = await asyncio.wrap_future(
        sdk.delete_named_shadow(iotshadow.DeleteNamedShadowRequest(**shadow))
    )
    assert deleted.version == 1
