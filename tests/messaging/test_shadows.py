"""All kinds of access to a shadow behave alike; and what each does if no service answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import (
    BinaryMessage,
    JsonMessage,
    PublishMessage,
    PublishToTopicRequest,
)

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging import shadow_topics
from s3downloader.messaging.bus import (
    Bus,
    Message,
    MessageHandler,
    Shadow,
    ShadowConflict,
    ShadowDocument,
)
from s3downloader.messaging.greengrass.bus import GreengrassBus
from s3downloader.messaging.greengrass.ipc import IpcClient
from s3downloader.messaging.greengrass.shadow import FirstAvailable, IpcShadow
from s3downloader.messaging.mqtt.bus import MqttBus
from s3downloader.messaging.shadow_topics import TopicShadow
from sandbox.servers import Broker
from sandbox.shadow_service import ShadowService
from sandbox.shadows import ShadowDocuments

from .conftest import StartNucleus
from .inbox import Inbox
from .memory import Hub, MemoryBus, MemoryShadow

UNAVAILABLE = ErrorCode.SHADOW_UNAVAILABLE


@dataclass
class Cloud:
    """A broker with a shadow service, and the shadows."""

    broker: Broker
    shadows: ShadowDocuments


@pytest.fixture(scope="module")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    shadows = ShadowDocuments()
    async with (
        Broker(tmp_path_factory.mktemp("cloud")) as broker,
        ShadowService(shadows, broker.port) as service,
    ):
        await service.wait_online()
        yield Cloud(broker, shadows)


@dataclass
class ShadowAccess:
    """A shadow, and a function by which another writer changes it."""

    shadow: Shadow
    write: Callable[[dict[str, Any]], object]


@pytest.fixture(params=["memory", "mqtt", "java", "lite", "ShadowManager"])
async def way(
    request: pytest.FixtureRequest, cloud: Cloud, prefix: str, start_nucleus: StartNucleus
) -> AsyncIterator[ShadowAccess]:
    def write(state: dict[str, Any]) -> None:
        cloud.shadows.update(prefix, "models", msgspec.json.encode({"state": state}))

    async with AsyncExitStack() as stack:
        if request.param == "memory":
            memory = MemoryShadow()
            yield ShadowAccess(memory, memory.write)
            return
        if request.param == "mqtt":
            mqtt = await stack.enter_async_context(MqttBus(cloud.broker.url, prefix))
            yield ShadowAccess(TopicShadow(mqtt, prefix), write)
            return
        personality = "lite" if request.param == "lite" else "java"
        await stack.enter_async_context(
            start_nucleus(personality, broker=cloud.broker, shadows=cloud.shadows)
        )
        ipc = await stack.enter_async_context(IpcClient())
        if request.param == "ShadowManager":
            yield ShadowAccess(IpcShadow(ipc, prefix), write)
            return
        bus = await stack.enter_async_context(GreengrassBus(ipc))
        yield ShadowAccess(TopicShadow(bus, prefix), write)


async def test_updates_merge_and_nulls_delete(way: ShadowAccess) -> None:
    assert await way.shadow.get() == ShadowDocument(version=0)
    models = {"a": {"x": 1}, "b": {"y": 1}}
    version = await way.shadow.update(version=0, state={"reported": {"models": models}})
    patch = {"a": {"z": "ü"}, "b": None}
    version = await way.shadow.update(version=version, state={"reported": {"models": patch}})
    assert await way.shadow.get() == ShadowDocument(
        version=version, reported={"models": {"a": {"x": 1, "z": "ü"}}}
    )


async def test_an_update_for_an_old_version_changes_nothing(way: ShadowAccess) -> None:
    version = await way.shadow.update(version=0, state={"reported": {"a": 1}})
    way.write({"desired": {"a": 2}})
    with pytest.raises(ShadowConflict):
        await way.shadow.update(version=version, state={"reported": {"a": 3}})
    assert await way.shadow.get() == ShadowDocument(
        version=version + 1, desired={"a": 2}, reported={"a": 1}
    )


async def test_a_document_over_the_services_limit_is_refused(way: ShadowAccess) -> None:
    version = await way.shadow.update(version=0, state={"reported": {"a": "." * 4500}})
    with pytest.raises(DownloaderError) as refusal:
        await way.shadow.update(version=version, state={"reported": {"b": "." * 4500}})
    assert refusal.value.code == ErrorCode.REGISTRY_FULL
    await way.shadow.update(version=version, state={"reported": {"b": "small"}})


async def test_changes_by_others_are_told_and_our_own_are_not(way: ShadowAccess) -> None:
    inbox = Inbox()
    await way.shadow.watch(lambda: inbox(Message("change", b"")))
    await way.shadow.update(version=0, state={"reported": {"a": 1}})
    assert (await way.shadow.get()).version == 1
    way.write({"desired": {"a": 2}})
    await inbox.count(1)
    assert (await way.shadow.get()).desired == {"a": 2}
    assert len(inbox.messages) == 1


async def test_requests_at_once_all_get_their_own_answer(way: ShadowAccess) -> None:
    await way.shadow.update(version=0, state={"reported": {"a": 1}})
    documents = await asyncio.gather(*(way.shadow.get() for _ in range(12)))
    assert documents == [ShadowDocument(version=1, reported={"a": 1})] * 12


class TestTopics:
    """Reserved topics without a shadow service, or with an overloaded one."""

    async def test_a_broker_without_a_service_is_found_out(
        self, broker: Broker, prefix: str
    ) -> None:
        async with MqttBus(broker.url, prefix) as bus:
            shadow = TopicShadow(bus, prefix, response_timeout=0.1)
            with pytest.raises(DownloaderError, match=f"{prefix}/shadow.*in 0.1 s") as error:
                await shadow.get()
            assert error.value.code == UNAVAILABLE
            with pytest.raises(DownloaderError) as error:
                await shadow.update(version=0, state={"reported": {}})
            assert error.value.code == UNAVAILABLE

    async def test_a_deleted_shadow_is_told_and_made_anew(self, cloud: Cloud, prefix: str) -> None:
        inbox = Inbox()
        async with MqttBus(cloud.broker.url, prefix) as bus:
            shadow = TopicShadow(bus, prefix)
            await shadow.watch(lambda: inbox(Message("change", b"")))
            await shadow.update(version=0, state={"reported": {"a": 1}})
            version = await shadow.update(version=1, state={"reported": {"a": 2}})
            cloud.shadows.delete(prefix, "models")
            await inbox.count(1)
            with pytest.raises(ShadowConflict):
                await shadow.update(version=version, state={"reported": {"a": 3}})
            assert (await shadow.get()).version == 0
            assert await shadow.update(version=0, state={"reported": {"a": 3}}) > version

    async def test_offline_is_unavailable(self) -> None:
        hub = Hub()
        hub.online = False
        async with MemoryBus(hub) as bus:
            with pytest.raises(DownloaderError) as error:
                await TopicShadow(bus, "thing").get()
        assert error.value.code == UNAVAILABLE

    async def test_an_update_that_the_bus_cannot_carry_says_so(self) -> None:
        async with MemoryBus(Hub(), max_payload=100) as bus:
            with pytest.raises(DownloaderError) as error:
                await TopicShadow(bus, "thing").update(version=0, state={"reported": "." * 100})
        assert error.value.code == ErrorCode.PAYLOAD_TOO_LARGE

    async def test_a_busy_service_is_asked_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shadow_topics, "SHORTEST_PAUSE", 0.001)
        codes = [429, 500, 429, 404]
        async with MemoryBus(Hub()) as bus:
            await bus.subscribe("$aws/things/thing/shadow/name/models/get", refuser(bus, codes))
            assert await TopicShadow(bus, "thing").get() == ShadowDocument(version=0)
        assert codes == []

    async def test_a_service_that_stays_busy_is_unavailable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shadow_topics, "SHORTEST_PAUSE", 0.001)
        codes = [429] * 100
        async with MemoryBus(Hub()) as bus:
            await bus.subscribe("$aws/things/thing/shadow/name/models/get", refuser(bus, codes))
            with pytest.raises(DownloaderError, match="429") as error:
                await TopicShadow(bus, "thing").get()
        assert error.value.code == UNAVAILABLE


def refuser(bus: Bus, codes: list[int]) -> MessageHandler:
    """Return a shadow service that answers each request with the next of `codes`."""

    def refuse(message: Message) -> None:
        token = msgspec.json.decode(message.payload)["clientToken"]
        answer = {"code": codes.pop(0), "message": "no", "clientToken": token}
        handlers.append(
            asyncio.create_task(
                bus.publish(f"{message.topic}/rejected", msgspec.json.encode(answer), qos=1)
            )
        )

    handlers: list[asyncio.Task[None]] = []
    return refuse


class TestShadowManager:
    async def test_without_leave_the_policy_that_lacks_is_named(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        access: dict[str, Any] = {"aws.greengrass.ipc.pubsub": {}}
        async with start_nucleus(access=access), IpcClient() as ipc:
            with pytest.raises(DownloaderError, match=r"aws.greengrass#GetThingShadow") as error:
                await IpcShadow(ipc, prefix).get()
            assert error.value.code == UNAVAILABLE
            with pytest.raises(DownloaderError, match=r"aws.greengrass#SubscribeToTopic") as error:
                await IpcShadow(ipc, prefix).watch(lambda: None)
            assert error.value.code == UNAVAILABLE

    async def test_nucleus_lite_has_none(self, start_nucleus: StartNucleus, prefix: str) -> None:
        async with start_nucleus("lite"), IpcClient() as ipc:
            with pytest.raises(DownloaderError, match="no ShadowManager") as error:
                await IpcShadow(ipc, prefix).get()
        assert error.value.code == UNAVAILABLE

    async def test_what_is_no_answer_of_the_service_is_passed_over(
        self, start_nucleus: StartNucleus, prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        inbox = Inbox()
        topic = f"$aws/things/{prefix}/shadow/name/models/update/accepted"
        nonsense = [
            PublishMessage(binary_message=BinaryMessage(message=b"{")),
            PublishMessage(json_message=JsonMessage(message={"state": {}})),
        ]
        async with start_nucleus() as nucleus, IpcClient() as ipc:
            shadow = IpcShadow(ipc, prefix)
            await shadow.watch(lambda: inbox(Message("change", b"")))
            for message in nonsense:
                request = PublishToTopicRequest(topic=topic, publish_message=message)
                await ipc.request(GreengrassCoreIPCClient.new_publish_to_topic, request)
            nucleus.shadows.update(prefix, "models", b'{"state": {"reported": {"a": 1}}}')
            await inbox.count(1)
        assert caplog.text.count("response cannot be decoded") == 2
        assert "Exception" not in caplog.text

    async def test_a_deleted_shadow_is_told_and_made_anew(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        inbox = Inbox()
        async with start_nucleus() as nucleus, IpcClient() as ipc:
            shadow = IpcShadow(ipc, prefix)
            await shadow.watch(lambda: inbox(Message("change", b"")))
            await shadow.update(version=0, state={"reported": {"a": 1}})
            version = await shadow.update(version=1, state={"reported": {"a": 2}})
            nucleus.shadows.delete(prefix, "models")
            await inbox.count(1)
            with pytest.raises(ShadowConflict):
                await shadow.update(version=version, state={"reported": {"a": 3}})
            assert (await shadow.get()).version == 0


class TestFirstAvailable:
    async def test_on_nucleus_lite_the_reserved_topics_serve(
        self, start_nucleus: StartNucleus, cloud: Cloud, prefix: str
    ) -> None:
        async with (
            start_nucleus("lite", broker=cloud.broker),
            IpcClient() as ipc,
            GreengrassBus(ipc) as bus,
        ):
            shadow = FirstAvailable(IpcShadow(ipc, prefix), TopicShadow(bus, prefix))
            assert await shadow.update(version=0, state={"reported": {"a": 1}}) == 1
            assert (await shadow.get()).reported == {"a": 1}

    async def test_the_first_is_kept_once_it_has_answered(self) -> None:
        first, second, inbox = MemoryShadow(), MemoryShadow(), Inbox()
        shadow = FirstAvailable(first, second)
        await shadow.watch(lambda: inbox(Message("change", b"")))
        await shadow.update(version=0, state={"reported": {"a": 1}})
        await inbox.count(1)
        first.available = False
        with pytest.raises(DownloaderError) as error:
            await shadow.get()
        assert error.value.code == UNAVAILABLE
        first.write({"desired": {"a": 2}})
        await inbox.count(2)
        second.write({"desired": {"a": 2}})
        first.available = True
        assert (await shadow.get()).reported == {"a": 1}
        assert len(inbox.messages) == 2

    async def test_the_second_serves_where_the_first_is_silent(self) -> None:
        first, second, inbox = MemoryShadow(), MemoryShadow(), Inbox()
        first.available = False
        second.write({"desired": {"a": 1}})
        shadow = FirstAvailable(first, second)
        await shadow.watch(lambda: inbox(Message("change", b"")))
        assert (await shadow.get()).desired == {"a": 1}
        await inbox.count(1)
        second.write({"desired": {"a": 2}})
        await inbox.count(2)

    async def test_a_refusal_is_an_answer(self) -> None:
        first, second = MemoryShadow(), MemoryShadow()
        first.write({"reported": {"a": 1}})
        shadow = FirstAvailable(first, second)
        with pytest.raises(ShadowConflict):
            await shadow.update(version=0, state={"reported": {"a": 2}})
        assert (await second.get()).version == 0
        assert (await shadow.get()).version == 1

    async def test_silence_everywhere_is_tried_again(self) -> None:
        first, second = MemoryShadow(), MemoryShadow()
        first.available = second.available = False
        shadow = FirstAvailable(first, second)
        with pytest.raises(DownloaderError) as error:
            await shadow.get()
        assert error.value.code == UNAVAILABLE
        second.available = True
        assert (await shadow.get()).version == 0
