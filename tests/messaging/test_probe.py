"""A probe finds subscriptions that end silently."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from s3downloader.messaging.greengrass import bus as greengrass
from s3downloader.messaging.greengrass import ipc
from s3downloader.messaging.mqtt.bus import MqttBus
from sandbox.servers import Broker

from ..support import eventually
from .buses import allow, open_bus, publish_until_heard
from .conftest import COMPONENT, StartNucleus
from .inbox import Inbox


async def test_subscriptions_that_died_silently_are_renewed(
    start_nucleus: StartNucleus, prefix: str
) -> None:
    inbox = Inbox()
    async with (
        start_nucleus("lite") as nucleus,
        open_bus(probe_topic=f"{prefix}/probe", probe_interval=0.05, probe_timeout=1) as bus,
    ):
        await bus.subscribe(f"{prefix}/commands", inbox)
        await nucleus.forget_subscriptions()
        await publish_until_heard(bus, f"{prefix}/commands", inbox)
        inbox.messages.clear()
        await bus.publish(f"{prefix}/commands", b"once", qos=1)
        await bus.publish(f"{prefix}/commands", b"last", qos=1)
        await inbox.holds(b"last")
        assert inbox.payloads.count(b"once") == 1


async def test_a_live_subscription_is_left_alone(
    start_nucleus: StartNucleus, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    probes = Inbox()
    async with start_nucleus("lite"), open_bus() as witness:
        await witness.subscribe(f"{prefix}/probe", probes)
        async with open_bus(probe_topic=f"{prefix}/probe", probe_interval=0.02):
            await probes.count(10)
    assert "renewing" not in caplog.text


async def test_without_leave_to_probe_the_bus_works(
    start_nucleus: StartNucleus, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = {"operations": ["*"], "resources": [f"{prefix}/commands"]}
    access = {"aws.greengrass.ipc.mqttproxy": {"policy": allowed}}
    inbox = Inbox()
    async with start_nucleus(access=access), open_bus(probe_topic=f"{prefix}/probe") as bus:
        await bus.subscribe(f"{prefix}/commands", inbox)
        await bus.publish(f"{prefix}/commands", b"ok", qos=1)
        assert await inbox.count(1) == [b"ok"]
    assert "cannot be detected" in caplog.text


async def test_leave_to_probe_may_come_later(
    start_nucleus: StartNucleus, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, probing = Inbox(), {"probe_interval": 0.05, "probe_timeout": 0.2}
    access = allow(f"{prefix}/commands")
    async with (
        start_nucleus("lite", access=access) as nucleus,
        open_bus(probe_topic=f"{prefix}/probe", **probing) as bus,
    ):
        await bus.subscribe(f"{prefix}/commands", inbox)
        await eventually(lambda: "cannot be detected" in caplog.text)
        nucleus.set_access_control(COMPONENT, allow(f"{prefix}/*"))
        await nucleus.forget_subscriptions()
        await publish_until_heard(bus, f"{prefix}/commands", inbox)
    assert caplog.text.count("cannot be detected") == 1


@pytest.fixture
async def probes(broker: Broker, prefix: str) -> AsyncIterator[Inbox]:
    """The messages published on the probe's topic, whether or not the nucleus delivers them."""
    inbox = Inbox()
    async with MqttBus(broker.url, f"{prefix}-witness") as witness:
        await witness.subscribe(f"{prefix}/probe", inbox)
        yield inbox


async def test_what_was_renewed_is_probed_at_once(
    start_nucleus: StartNucleus, prefix: str, probes: Inbox
) -> None:
    async with start_nucleus("lite") as nucleus:
        nucleus.faults.drop_messages = True
        async with open_bus(probe_topic=f"{prefix}/probe", probe_interval=3_600, probe_timeout=0.1):
            await probes.count(2)


async def test_the_pause_never_grows_and_the_log_is_quiet(
    start_nucleus: StartNucleus, prefix: str, probes: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, probing = Inbox(), {"probe_interval": 0.2, "probe_timeout": 0.1}
    async with start_nucleus("lite") as nucleus:
        nucleus.faults.drop_messages = True
        async with open_bus(probe_topic=f"{prefix}/probe", **probing) as bus:
            await bus.subscribe(f"{prefix}/commands", inbox)
            await probes.count(14)  # with doubling pauses it would take half a minute
            nucleus.faults.drop_messages = False
            await publish_until_heard(bus, f"{prefix}/commands", inbox)
    assert caplog.text.count("renewing them") == 1
    assert caplog.text.count("renewed subscriptions deliver nothing") == 1


async def test_a_probe_that_cannot_be_published_follows_soon(
    start_nucleus: StartNucleus,
    prefix: str,
    probes: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(greengrass, "PROBE_RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(greengrass, "SHORTEST_PAUSE", 0.01)
    caplog.set_level("DEBUG", "s3downloader")
    async with start_nucleus("lite") as nucleus:
        nucleus.faults.fail_publishes = True
        async with open_bus(probe_topic=f"{prefix}/probe", probe_interval=3_600):
            await eventually(lambda: "the probe was not published" in caplog.text)
            nucleus.faults.fail_publishes = False
            await probes.count(1)


def test_commands_are_lost_for_a_minute_at_most() -> None:
    renewing = 1
    assert greengrass.PROBE_INTERVAL + greengrass.PROBE_TIMEOUT + renewing < 60
    assert ipc.OPEN_TIMEOUT + ipc.OPEN_SPACING <= 30
