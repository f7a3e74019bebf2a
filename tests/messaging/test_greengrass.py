"""Messaging over the nucleus when it fails, drops the connection, or loses subscriptions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from s3downloader.core.aio import timeout
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import MessagingError
from s3downloader.messaging.greengrass import bus as greengrass
from s3downloader.messaging.greengrass import ipc
from s3downloader.messaging.greengrass.ipc import IpcClient
from s3downloader.messaging.greengrass.message_sizes import MessageSizes
from sandbox.servers import Broker

from ..support import PATIENCE, eventually
from .buses import open_bus, publish_until_heard
from .conftest import COMPONENT, StartNucleus
from .inbox import Inbox

pytestmark = pytest.mark.usefixtures("_quick_retries")


@pytest.fixture
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greengrass, "SHORTEST_PAUSE", 0.01)


class TestConnection:
    async def test_a_dropped_connection_is_replaced(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        inbox = Inbox()
        async with start_nucleus() as nucleus, open_bus() as bus:
            await bus.subscribe(prefix, inbox)
            await nucleus.drop_connection(COMPONENT)
            await publish_until_heard(bus, prefix, inbox)

    async def test_a_restarted_nucleus_is_found_again(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        inbox = Inbox()
        async with start_nucleus() as nucleus, open_bus() as bus:
            await bus.subscribe(prefix, inbox)
            await nucleus.restart()
            await publish_until_heard(bus, prefix, inbox)

    async def test_renewed_subscriptions_deliver_once(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        inbox, ready = Inbox(), Inbox()
        async with start_nucleus("lite") as nucleus, open_bus() as bus:
            await bus.subscribe(f"{prefix}/commands", inbox)
            await bus.subscribe(f"{prefix}/ready", ready)
            for _ in range(3):
                ready.messages.clear()
                await nucleus.drop_connection(COMPONENT)
                await publish_until_heard(bus, f"{prefix}/ready", ready)
            await bus.publish(f"{prefix}/commands", b"once", qos=1)
            await bus.publish(f"{prefix}/commands", b"last", qos=1)
            await inbox.holds(b"last")
        assert inbox.payloads == [b"once", b"last"]

    async def test_subscriptions_made_while_it_reconnects_deliver_once(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        inbox, ready = Inbox(), Inbox()
        topics = [f"{prefix}/{number}" for number in range(10)]
        async with start_nucleus("lite") as nucleus, open_bus() as bus:
            await nucleus.drop_connection(COMPONENT)
            await asyncio.gather(*(bus.subscribe(topic, inbox) for topic in topics))
            await bus.subscribe(f"{prefix}/ready", ready)
            await publish_until_heard(bus, f"{prefix}/ready", ready)
            for topic in topics:
                await bus.publish(topic, topic.encode(), qos=1)
            await inbox.holds(topics[-1].encode())
        assert inbox.payloads == [topic.encode() for topic in topics]

    @pytest.mark.parametrize("personality", ["java", "lite"])
    async def test_a_forgotten_token_is_the_end(
        self, start_nucleus: StartNucleus, personality: Literal["java", "lite"]
    ) -> None:
        async with start_nucleus(personality) as nucleus, open_bus() as bus:
            await nucleus.restart(forget_tokens=True)
            async with timeout(PATIENCE):
                reason = await bus.wait_lost()
        assert "must be started again" in reason.message

    async def test_a_handshake_that_is_cut_is_no_refusal(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        inbox = Inbox()
        async with start_nucleus("lite") as nucleus, open_bus() as bus:
            await bus.subscribe(prefix, inbox)
            nucleus.faults.cut_handshakes = ipc.REFUSALS - 1
            await nucleus.drop_connection(COMPONENT)
            await publish_until_heard(bus, prefix, inbox)
            assert nucleus.faults.cut_handshakes == 0

    async def test_a_nucleus_that_is_away_is_waited_for(
        self, start_nucleus: StartNucleus, prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        inbox = Inbox()
        async with start_nucleus("lite") as nucleus, open_bus() as bus:
            await bus.subscribe(prefix, inbox)
            async with nucleus.away():
                await eventually(lambda: "no nucleus responds" in caplog.text)
            await publish_until_heard(bus, prefix, inbox)

    async def test_a_start_waits_for_the_nucleus(
        self, start_nucleus: StartNucleus, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with start_nucleus("lite") as nucleus:
            async with nucleus.away():
                starting = asyncio.create_task(IpcClient().__aenter__())
                await eventually(lambda: "no nucleus responds" in caplog.text)
                assert not starting.done()
            async with timeout(PATIENCE):
                client = await starting
            assert nucleus.connected(COMPONENT)
            await client.__aexit__()

    @pytest.mark.parametrize("personality", ["java", "lite"])
    async def test_a_start_with_a_token_that_is_refused_fails(
        self, start_nucleus: StartNucleus, personality: Literal["java", "lite"]
    ) -> None:
        async with start_nucleus(personality) as nucleus:
            nucleus.faults.refuse_connections = True
            async with timeout(PATIENCE):
                with pytest.raises(MessagingError, match="refuses"):
                    await IpcClient().__aenter__()

    @pytest.mark.parametrize("variable", [ipc.SOCKET_VARIABLE, ipc.TOKEN_VARIABLE])
    async def test_the_nucleus_sets_the_environment(
        self, start_nucleus: StartNucleus, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        async with start_nucleus():
            monkeypatch.delenv(variable)
            with pytest.raises(DownloaderError, match=variable) as refusal:
                IpcClient()
        assert refusal.value.code == ErrorCode.INVALID_FIELD


class TestPublishing:
    async def test_a_passing_failure_is_bridged(
        self, start_nucleus: StartNucleus, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(greengrass, "ATTEMPTS", 1000)
        inbox = Inbox()
        async with start_nucleus() as nucleus, open_bus() as bus:
            await bus.subscribe(prefix, inbox)
            nucleus.faults.fail_publishes = True
            publishing = asyncio.create_task(bus.publish(prefix, b"late", qos=1))
            await asyncio.wait([publishing], timeout=0.05)
            assert not publishing.done()
            nucleus.faults.fail_publishes = False
            await publishing
            assert await inbox.count(1) == [b"late"]

    @pytest.mark.parametrize("qos", [0, 1])
    async def test_a_lasting_failure_is_raised(
        self, start_nucleus: StartNucleus, prefix: str, qos: int
    ) -> None:
        async with start_nucleus() as nucleus, open_bus() as bus:
            nucleus.faults.fail_publishes = True
            async with timeout(PATIENCE):
                with pytest.raises(MessagingError, match=prefix):
                    await bus.publish(prefix, b"", qos=qos)

    async def test_a_silent_nucleus_does_not_hold_a_publish_for_ever(
        self, start_nucleus: StartNucleus, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ipc, "REQUEST_TIMEOUT", 0.1)
        async with start_nucleus() as nucleus, open_bus() as bus:
            nucleus.faults.ack_delay = 60
            with pytest.raises(MessagingError, match="no response in time"):
                await bus.publish(prefix, b"", qos=1)

    async def test_without_a_broker_nucleus_lite_fails_and_recovers(
        self, start_nucleus: StartNucleus, tmp_path: Path, prefix: str
    ) -> None:
        inbox = Inbox()
        async with (
            Broker(tmp_path / "broker") as broker,
            start_nucleus("lite", broker=broker) as nucleus,
            open_bus() as bus,
        ):
            await bus.subscribe(prefix, inbox)
            await broker.stop()
            await nucleus.iot_core.wait_offline()
            with pytest.raises(MessagingError):
                await bus.publish(prefix, b"", qos=1)
            await broker.start()
            await publish_until_heard(bus, prefix, inbox)

    @pytest.mark.parametrize("size", [10, 5000])
    async def test_a_burst_stays_within_what_nucleus_lite_takes(
        self, start_nucleus: StartNucleus, prefix: str, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        monkeypatch.setattr(greengrass, "ATTEMPTS", 1)
        async with start_nucleus("lite") as nucleus, open_bus() as bus:
            nucleus.faults.ack_delay = 0.02
            await asyncio.gather(*(bus.publish(prefix, bytes(size), qos=1) for _ in range(30)))

    async def test_large_and_small_messages_share_the_window(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        inbox = Inbox()
        async with start_nucleus() as nucleus, open_bus(sizes=MessageSizes(lambda: 100_000)) as bus:
            nucleus.faults.ack_delay = 0.02
            await bus.subscribe(prefix, inbox)
            sent = [bytes([number]) * size for number, size in enumerate([10, 50_000, 5_000] * 5)]
            async with timeout(PATIENCE):
                await asyncio.gather(*(bus.publish(prefix, payload, qos=1) for payload in sent))
            assert sorted(await inbox.count(15)) == sorted(sent)


class TestAccess:
    async def test_a_forbidden_publish_says_what_to_grant(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        allowed = {
            "operations": ["aws.greengrass#PublishToIoTCore"],
            "resources": [f"{prefix}/responses"],
        }
        access = {"aws.greengrass.ipc.mqttproxy": {"policy": allowed}}
        async with start_nucleus(access=access), open_bus() as bus:
            await bus.publish(f"{prefix}/responses", b"", qos=1)
            with pytest.raises(DownloaderError, match=f"PublishToIoTCore.*{prefix}/x") as refusal:
                await bus.publish(f"{prefix}/x", b"", qos=1)
            assert refusal.value.code == ErrorCode.ACCESS_DENIED
            with pytest.raises(DownloaderError, match=f"SubscribeToIoTCore.*{prefix}/c") as refusal:
                await bus.subscribe(f"{prefix}/c", Inbox())
            assert refusal.value.code == ErrorCode.ACCESS_DENIED


class TestLink:
    async def test_it_is_told_when_the_link_is_back(
        self,
        start_nucleus: StartNucleus,
        prefix: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(greengrass, "LINK_INTERVAL", 0.02)
        told: list[int] = []
        async with (
            Broker(tmp_path / "own") as broker,
            start_nucleus("lite", broker=broker) as nucleus,
            open_bus(probe_topic=f"{prefix}/probe") as bus,
        ):
            bus.watch_link(lambda: told.append(1))
            await bus.publish(f"{prefix}/t", b"", qos=1)
            await broker.stop()
            await nucleus.iot_core.wait_offline()
            with pytest.raises(MessagingError):
                await bus.publish(f"{prefix}/t", b"", qos=1)
            assert not told
            await broker.start()
            await eventually(lambda: told)
            assert told == [1]

    async def test_a_publish_that_fails_on_a_good_link_tells_nothing(
        self, start_nucleus: StartNucleus, prefix: str
    ) -> None:
        told: list[int] = []
        inbox = Inbox()
        async with start_nucleus() as nucleus, open_bus(probe_topic=f"{prefix}/probe") as bus:
            bus.watch_link(lambda: told.append(1))
            await bus.subscribe(f"{prefix}/t", inbox)
            nucleus.faults.fail_publishes = True
            with pytest.raises(MessagingError):
                await bus.publish(f"{prefix}/t", b"failed", qos=1)
            nucleus.faults.fail_publishes = False
            await bus.publish(f"{prefix}/t", b"heard", qos=1)
            await inbox.holds(b"heard")
        assert not told
