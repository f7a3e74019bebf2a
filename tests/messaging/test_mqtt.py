"""MQTT 5 when the broker stops, refuses, or requires certificates."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import getpass
import hashlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.aio import timeout
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import MessagingError
from s3downloader.messaging.mqtt.bus import RECONNECT_DELAYS, MqttBus
from sandbox.processes import Process, accepts, find_program, free_ports
from sandbox.servers import Broker
from tests.support import PATIENCE, eventually

from .inbox import Inbox

QUICK = (0.02, 0.1)
"""The delays between attempts to connect, in seconds."""

SALT = b"twelve bytes"


@pytest.fixture
async def own_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with Broker(tmp_path / "broker") as broker:
        yield broker


async def publish_until_accepted(bus: MqttBus, topic: str, payload: bytes) -> None:
    async with timeout(PATIENCE):
        while True:
            try:
                return await bus.publish(topic, payload, qos=1)
            except MessagingError:
                await asyncio.sleep(0.02)


async def test_a_publish_without_a_broker_fails_at_once(
    own_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    async with MqttBus(
        own_broker.url, "device", reconnect_delays=QUICK, ack_timeout=2 * PATIENCE
    ) as bus:
        await own_broker.stop()
        await eventually(lambda: "was lost" in caplog.text)
        async with timeout(PATIENCE):
            with pytest.raises(MessagingError, match=own_broker.url):
                await bus.publish("t", b"", qos=1)
            with pytest.raises(MessagingError):
                await bus.publish("t", b"", qos=0)


async def test_nothing_is_lost_when_the_broker_restarts_during_publish(
    own_broker: Broker,
) -> None:
    inbox = Inbox()
    async with MqttBus(own_broker.url, "device", reconnect_delays=QUICK) as bus:
        await bus.subscribe("t", inbox)

        async def publish_all() -> None:
            for number in range(200):
                await publish_until_accepted(bus, "t", b"%d" % number)

        publishing = asyncio.create_task(publish_all())
        await inbox.count(20)
        await own_broker.stop()
        await own_broker.start()
        await publishing
        # The broker lost what it had accepted but not delivered; it delivers what came later.
        await inbox.holds(b"199")
        assert [int(payload) for payload in inbox.payloads] == sorted(
            {int(payload) for payload in inbox.payloads}
        )


def sends_at_once(port: int) -> list[bool]:
    """Return for each connection of this process to `port` whether it has TCP_NODELAY."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as each:
            if each.family == socket.AF_INET and each.getpeername()[1] == port:
                found.append(bool(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    return found


async def test_small_messages_do_not_wait_for_each_other(broker: Broker, prefix: str) -> None:
    async with MqttBus(broker.url, prefix) as bus:
        await bus.publish(prefix, b"", qos=1)
        assert sends_at_once(broker.port) == [True], "else each waits for TCP's 40 ms"


async def test_subscriptions_made_without_a_broker_wait_for_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    inbox = Inbox()
    async with MqttBus(broker.url, "device", reconnect_delays=QUICK) as bus:
        await bus.subscribe("t", inbox)
        async with broker:
            await publish_until_accepted(bus, "t", b"first")
            while not inbox.messages:  # the subscription may be made after that publish
                await publish_until_accepted(bus, "t", b"again")


async def test_commands_sent_while_the_daemon_is_away_arrive(broker: Broker, prefix: str) -> None:
    topic = f"{prefix}/commands"
    async with MqttBus(broker.url, f"{prefix}-cloud") as cloud:
        async with MqttBus(broker.url, prefix) as bus:
            await bus.subscribe(topic, Inbox())
        for payload in (b"1", b"2", b"3"):
            await cloud.publish(topic, payload, qos=1)
        async with MqttBus(broker.url, prefix) as bus:
            await bus.publish(f"{prefix}/other", b"", qos=1)  # they arrive before the handler
            inbox = Inbox()
            await bus.subscribe(topic, inbox)
            await cloud.publish(topic, b"4", qos=1)
            assert await inbox.count(4) == [b"1", b"2", b"3", b"4"]


def test_attempts_to_connect_are_less_than_five_seconds_apart() -> None:
    assert max(RECONNECT_DELAYS) < 5


async def test_a_silent_broker_does_not_hold_a_publish_for_ever() -> None:
    async def accept_and_say_no_more(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK, success
        await reader.read()
        writer.close()
        left.set()

    left = asyncio.Event()
    server = await asyncio.start_server(accept_and_say_no_more, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with (
            MqttBus(f"mqtt://127.0.0.1:{port}", "device", ack_timeout=0.2) as bus,
            timeout(PATIENCE),
        ):
            with pytest.raises(MessagingError, match="no response in time"):
                await bus.publish("t", b"", qos=1)
        await left.wait()


async def test_a_network_that_is_away_is_not_the_end(own_broker: Broker) -> None:
    async with MqttBus(own_broker.url, "device", reconnect_delays=QUICK, refusal_patience=0) as bus:
        await own_broker.stop()
        lost = asyncio.create_task(bus.wait_lost())
        await asyncio.wait([lost], timeout=0.5)  # many attempts, all refused by the kernel
        assert not lost.done()
        lost.cancel()


@pytest.fixture(scope="module")
async def tls_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    async with Broker(tmp_path_factory.mktemp("tls"), tls=True) as broker:
        yield broker


async def test_a_client_certificate_lets_in(tls_broker: Broker, prefix: str) -> None:
    inbox = Inbox()
    async with MqttBus(
        f"mqtts://localhost:{tls_broker.tls_port}",
        prefix,
        ca=tls_broker.ca,
        cert=tls_broker.cert,
        key=tls_broker.key,
    ) as bus:
        await bus.subscribe(prefix, inbox)
        await bus.publish(prefix, b"hello", qos=1)
        assert await inbox.count(1) == [b"hello"]


async def test_without_one_the_bus_is_lost(tls_broker: Broker, prefix: str) -> None:
    url = f"mqtts://localhost:{tls_broker.tls_port}"
    async with (
        MqttBus(url, prefix, ca=tls_broker.ca, reconnect_delays=QUICK, refusal_patience=0.1) as bus,
        timeout(PATIENCE),
    ):
        reason = await bus.wait_lost()
    assert "certificate" in reason.message
    assert str(tls_broker.tls_port) in reason.message


async def test_only_uninterrupted_refusal_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patience = 0.6
    async with Broker(tmp_path, tls=True) as broker:
        url = f"mqtts://localhost:{broker.tls_port}"
        async with MqttBus(
            url, "device", ca=broker.ca, reconnect_delays=QUICK, refusal_patience=2 * PATIENCE
        ) as bus:
            await eventually(lambda: "certificate" in caplog.text)
            await broker.stop()
            await eventually(lambda: "cannot be reached" in caplog.text)
            bus._refusal_patience = patience
            await asyncio.sleep(patience)
            returned = time.monotonic()
            await broker.start()
            async with timeout(PATIENCE):
                await bus.wait_lost()
    assert time.monotonic() - returned >= patience


@pytest.fixture(scope="module")
async def strict_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """mosquitto with a password, access rules and small packets; yields its host and port."""
    directory = tmp_path_factory.mktemp("strict")
    (port,) = free_ports(1)
    (plugin,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    rules, config = directory / "rules.json", directory / "mosquitto.conf"
    rules.write_text(json.dumps(access_rules(user="me", password="s3cret/", topics="mine/#")))
    config.write_text(
        f"user {getpass.getuser()}\nlistener {port} 127.0.0.1\nallow_anonymous false\n"
        f"max_packet_size 2000\nplugin {plugin}\nplugin_opt_config_file {rules}\n"
    )
    mosquitto = find_program("mosquitto", hint="install it: sudo apt-get install mosquitto")
    process = await Process.start(
        [mosquitto, "-c", config], log=directory / "log", ready=lambda: accepts(port)
    )
    yield f"127.0.0.1:{port}"
    await process.stop()


def access_rules(*, user: str, password: str, topics: str) -> dict[str, Any]:
    """Return mosquitto's dynamic security rules, which allow `user` only `topics`."""
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), SALT, 100)
    acls = [
        {"acltype": kind, "topic": topics, "allow": True}
        for kind in ("publishClientSend", "subscribePattern")
    ]
    client = {
        "username": user,
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(SALT).decode(),
        "iterations": 100,
        "roles": [{"rolename": "role"}],
    }
    return {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [client],
        "roles": [{"rolename": "role", "acls": acls}],
    }


async def test_password_and_policy(strict_broker: str, prefix: str) -> None:
    inbox = Inbox()
    async with MqttBus(f"mqtt://me:s3cret%2F@{strict_broker}", prefix) as bus:
        await bus.subscribe("mine/t", inbox)
        await bus.publish("mine/t", b"ok", qos=1)
        assert await inbox.count(1) == [b"ok"]
        with pytest.raises(DownloaderError, match="theirs/t") as refusal:
            await bus.publish("theirs/t", b"", qos=1)
        assert refusal.value.code == ErrorCode.ACCESS_DENIED


async def test_the_brokers_own_limit_counts(strict_broker: str, prefix: str) -> None:
    inbox = Inbox()
    async with MqttBus(f"mqtt://me:s3cret%2F@{strict_broker}", prefix) as bus:
        await bus.subscribe("mine/t", inbox)
        with pytest.raises(DownloaderError) as refusal:
            await bus.publish("mine/t", bytes(2000), qos=1)
        assert refusal.value.code == ErrorCode.PAYLOAD_TOO_LARGE
        largest = bytes(refusal.value.details["limit"])
        await bus.publish("mine/t", largest, qos=1)
        assert await inbox.count(1) == [largest]


async def test_a_wrong_password_ends_it_and_appears_nowhere(
    strict_broker: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with (
        MqttBus(
            f"mqtt://me:wr0ng@{strict_broker}", prefix, reconnect_delays=QUICK, refusal_patience=0.1
        ) as bus,
        timeout(PATIENCE),
    ):
        reason = await bus.wait_lost()
    assert "password" in reason.message
    assert strict_broker in caplog.text
    assert "wr0ng" not in caplog.text + reason.message


async def test_a_refused_subscription_is_said(strict_broker: str, prefix: str) -> None:
    async with MqttBus(f"mqtt://me:s3cret%2F@{strict_broker}", prefix) as bus:
        with pytest.raises(DownloaderError, match="theirs/t") as refusal:
            await bus.subscribe("theirs/t", Inbox())
        assert refusal.value.code == ErrorCode.ACCESS_DENIED
