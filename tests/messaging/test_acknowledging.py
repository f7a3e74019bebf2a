"""MQTT 5: messages are acknowledged once they are safe, and others are delivered again."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import aiomqtt
import pytest

from s3downloader.messaging.bus import Message
from s3downloader.messaging.mqtt import bus as mqtt
from s3downloader.messaging.mqtt.acknowledgements import Acknowledgements
from s3downloader.messaging.mqtt.bus import RECEIVE_MAXIMUM, MqttBus
from sandbox.servers import Broker
from tests.support import eventually

from .inbox import Inbox
from .test_mqtt import QUICK


class HeldInbox:
    """Keeps messages, and completes their futures only when the test says so."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.safe: list[asyncio.Future[None]] = []

    def __call__(self, message: Message) -> asyncio.Future[None]:
        self.messages.append(message)
        self.safe.append(asyncio.get_running_loop().create_future())
        return self.safe[-1]

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    def has_more_than(self, count: int) -> bool:
        return len(self.messages) > count

    async def holds(self, *payloads: bytes) -> None:
        await eventually(lambda: self.payloads == list(payloads))


async def turns() -> None:
    """Let the event loop run its callbacks."""
    for _ in range(5):
        await asyncio.sleep(0)


async def acknowledged(bus: MqttBus, prefix: str) -> None:
    """Wait until the broker has the acknowledgements: they are sent before this message."""
    await turns()
    await bus.publish(f"{prefix}/other", b"", qos=1)


async def test_what_is_not_safe_comes_again_to_the_next(broker: Broker, prefix: str) -> None:
    first, second = HeldInbox(), HeldInbox()
    async with MqttBus(broker.url, f"{prefix}-cloud") as cloud:
        async with MqttBus(broker.url, prefix) as bus:
            await bus.subscribe(prefix, first)
            for payload in (b"1", b"2", b"3"):
                await cloud.publish(prefix, payload, qos=1)
            await first.holds(b"1", b"2", b"3")
            first.safe[0].set_result(None)
            first.safe[2].set_result(None)  # not acknowledged before the second
            await acknowledged(bus, prefix)
        async with MqttBus(broker.url, prefix) as bus:
            await bus.subscribe(prefix, second)
            await cloud.publish(prefix, b"4", qos=1)
            await second.holds(b"2", b"3", b"4")


async def test_what_was_safe_just_before_the_end_does_not_come_again(
    broker: Broker, prefix: str
) -> None:
    async with MqttBus(broker.url, f"{prefix}-cloud") as cloud:
        for number in range(10):
            keeper, payload = HeldInbox(), b"%d" % number
            async with MqttBus(broker.url, prefix) as bus:
                await bus.subscribe(prefix, keeper)
                await cloud.publish(prefix, payload, qos=1)
                await keeper.holds(payload)
                keeper.safe[0].set_result(None)
                await turns()


async def test_the_broker_keeps_what_is_over_the_maximum(broker: Broker, prefix: str) -> None:
    keeper, sent = HeldInbox(), [b"%d" % n for n in range(300)]
    async with (
        MqttBus(broker.url, f"{prefix}-cloud") as cloud,
        MqttBus(broker.url, prefix) as bus,
    ):
        await bus.subscribe(prefix, keeper)
        await asyncio.gather(*(cloud.publish(prefix, payload, qos=1) for payload in sent))
        await keeper.holds(*sent[:RECEIVE_MAXIMUM])
        await bus.publish(
            f"{prefix}/other", b"", qos=1
        )  # the response comes after what was sent before
        assert len(keeper.messages) == RECEIVE_MAXIMUM
        settled = 0
        while settled < len(sent):
            await eventually(partial(keeper.has_more_than, settled))
            for safe in keeper.safe[settled:]:
                safe.set_result(None)
                settled += 1
        assert keeper.payloads == sent


async def test_what_was_not_safe_when_the_link_broke_comes_again(tmp_path: Path) -> None:
    keeper = HeldInbox()
    async with (
        Broker(tmp_path / "broker", persistence=True) as broker,
        MqttBus(broker.url, "device", reconnect_delays=QUICK) as bus,
    ):
        await bus.subscribe("t", keeper)
        await bus.publish("t", b"1", qos=1)
        await keeper.holds(b"1")
        await broker.stop()
        await broker.start()
        await keeper.holds(b"1", b"1")
        keeper.safe[0].set_result(None)  # of the lost connection, so it acknowledges nothing
        keeper.safe[1].set_result(None)
        async with MqttBus(broker.url, "cloud") as cloud:
            await cloud.publish("t", b"2", qos=1)
            await keeper.holds(b"1", b"1", b"2")


async def test_what_nobody_wants_any_more_holds_nothing_up(
    broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "CLAIM_TIMEOUT", 0.01)
    inbox = Inbox()
    async with MqttBus(broker.url, f"{prefix}-cloud") as cloud:
        async with MqttBus(broker.url, prefix) as bus:
            await bus.subscribe(f"{prefix}/earlier", Inbox())
        for _ in range(2 * RECEIVE_MAXIMUM):
            await cloud.publish(f"{prefix}/earlier", b"", qos=1)
        async with MqttBus(broker.url, prefix) as bus:
            await bus.subscribe(f"{prefix}/now", inbox)
            await cloud.publish(f"{prefix}/now", b"heard", qos=1)
            await inbox.holds(b"heard")
            assert f"messages to {prefix}/earlier are dropped" in caplog.text
            await bus.subscribe(f"{prefix}/later", Inbox())  # answered after the unsubscription
            await eventually(lambda: not bus._unclaimed)
            count = caplog.text.count("are dropped")
            await cloud.publish(f"{prefix}/earlier", b"", qos=1)
            await cloud.publish(f"{prefix}/now", b"again", qos=1)
            await inbox.holds(b"again")
            assert not bus._unclaimed
            assert caplog.text.count("are dropped") == count


async def test_a_retained_message_comes_with_a_new_subscription_alone(
    broker: Broker, prefix: str
) -> None:
    kept, inbox = HeldInbox(), HeldInbox()
    async with aiomqtt.Client("127.0.0.1", broker.port) as cloud:
        await cloud.publish(prefix, b"kept", qos=1, retain=True)
        async with MqttBus(broker.url, prefix) as bus:
            await bus.subscribe(prefix, kept)
            await cloud.publish(prefix, b"kept anew", qos=1, retain=True)
            await cloud.publish(prefix, b"fleeting", qos=1)
            await kept.holds(b"kept", b"kept anew", b"fleeting")
            assert [message.retained for message in kept.messages] == [True, True, False]
            for safe in kept.safe:
                safe.set_result(None)
            await acknowledged(bus, prefix)
        async with MqttBus(broker.url, prefix) as bus:
            await bus.subscribe(prefix, inbox)
            await cloud.publish(prefix, b"next", qos=1)
            await inbox.holds(b"next")
        await cloud.publish(prefix, b"", qos=1, retain=True)


async def test_it_is_told_when_the_link_is_back(tmp_path: Path) -> None:
    changes: list[int] = []
    async with Broker(tmp_path / "broker") as broker:
        bus = MqttBus(broker.url, "device", reconnect_delays=QUICK)
        bus.watch_link(lambda: changes.append(1))
        async with bus:
            await eventually(lambda: len(changes) == 1)
            await broker.stop()
            await broker.start()
            await eventually(lambda: len(changes) == 2)


async def test_acknowledgements_keep_the_order_of_the_messages() -> None:
    acknowledgements, sent = Acknowledgements(), list[int]()
    waits: list[asyncio.Future[None]] = [asyncio.Future() for _ in range(4)]
    for number in range(4):
        acknowledge = acknowledgements.expect(partial(sent.append, number))
        acknowledge([waits[number]] if number != 1 else [waits[1], waits[3]])
    for settled, expected in ((2, []), (1, []), (0, [0]), (3, [0, 1, 2, 3])):
        waits[settled].set_result(None)
        await turns()
        assert sent == expected
