"""Subscriptions that nucleus lite refuses or ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from s3downloader.messaging.greengrass import ipc
from s3downloader.messaging.greengrass.bus import GreengrassBus
from s3downloader.messaging.greengrass.ipc import IpcClient
from sandbox.servers import Broker

from ..support import eventually
from .buses import allow, open_bus, optional_subscription, publish_until_heard
from .conftest import COMPONENT, StartNucleus
from .inbox import Inbox


async def test_what_is_refused_offline_is_opened_when_online(
    start_nucleus: StartNucleus,
    tmp_path: Path,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ipc, "OPTIONAL_INTERVAL", 0.05)
    inbox, optional = Inbox(), Inbox()
    async with (
        Broker(tmp_path / "broker") as broker,
        start_nucleus("lite", broker=broker) as nucleus,
        IpcClient() as client,
        GreengrassBus(client) as bus,
    ):
        await broker.stop()
        await nucleus.iot_core.wait_offline()
        without = optional_subscription(f"{prefix}/optional", optional)
        topics = [f"{prefix}/{number}" for number in range(5)]
        await asyncio.gather(
            client.subscribe(without), *(bus.subscribe(topic, inbox) for topic in topics)
        )
        await broker.start()
        await publish_until_heard(bus, topics[-1], inbox)
        await publish_until_heard(bus, f"{prefix}/optional", optional)


async def test_one_refused_among_others_ends_nothing(
    start_nucleus: StartNucleus, prefix: str
) -> None:
    """It is refused repeatedly while another one is being renewed."""
    inbox = Inbox()
    access = allow(f"{prefix}/free")
    async with start_nucleus("lite", access=access) as nucleus, open_bus() as bus:
        await bus.subscribe(f"{prefix}/free", inbox)
        for _ in range(5):
            await nucleus.drop_connection(COMPONENT)
            await asyncio.gather(
                *(bus.subscribe(f"{prefix}/denied", inbox) for _ in range(3)),
                return_exceptions=True,
            )
            inbox.messages.clear()
            await publish_until_heard(bus, f"{prefix}/free", inbox)


async def test_an_optional_one_is_asked_for_again(
    start_nucleus: StartNucleus, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "OPTIONAL_INTERVAL", 0.05)
    inbox = Inbox()
    access = allow(f"{prefix}/free")
    async with start_nucleus("lite", access=access) as nucleus, IpcClient() as client:
        bus = GreengrassBus(client)
        await client.subscribe(optional_subscription(f"{prefix}/late", inbox))
        await bus.publish(f"{prefix}/free", b"", qos=1)
        nucleus.set_access_control(COMPONENT, allow(f"{prefix}/*"))
        await publish_until_heard(bus, f"{prefix}/late", inbox)


async def test_a_stream_that_the_nucleus_ends_is_opened_anew(
    start_nucleus: StartNucleus, prefix: str
) -> None:
    inbox = Inbox()
    async with start_nucleus("lite") as nucleus, open_bus() as bus:
        await bus.subscribe(prefix, inbox)
        nucleus.end_streams(COMPONENT)
        await publish_until_heard(bus, prefix, inbox)


async def test_a_fault_in_the_repair_ends_nothing(
    start_nucleus: StartNucleus, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    faulty = optional_subscription(f"{prefix}/faulty", inbox)
    async with start_nucleus("lite") as nucleus, IpcClient() as client:
        bus = GreengrassBus(client)
        await bus.subscribe(f"{prefix}/sound", inbox)
        await client.subscribe(faulty)
        del faulty.request
        await nucleus.drop_connection(COMPONENT)
        await publish_until_heard(bus, f"{prefix}/sound", inbox)
        await eventually(lambda: "could not be restored" in caplog.text)
        await nucleus.drop_connection(COMPONENT)
        inbox.messages.clear()
        await publish_until_heard(bus, f"{prefix}/sound", inbox)
