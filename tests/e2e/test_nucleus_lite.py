"""The daemon on nucleus lite, which drops connections, messages and subscriptions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from s3downloader.core.aio import timeout
from sandbox.device import COMPONENT, component_recipe
from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer

from ..support import PATIENCE, eventually
from .conftest import Bench, make_bench

WIDE = {"MaxPayloadBytes": 131_072, "ShadowMaxBytes": 1 << 20}
"""More bytes than nucleus lite accepts."""


@pytest.fixture
async def lite(
    request: pytest.FixtureRequest, tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A device on nucleus lite, not started, with the configuration of the test's parameter."""
    configuration = getattr(request, "param", {})
    async with make_bench("lite", tmp_path, broker, object_server, configuration) as bench:
        yield bench


async def answer(operator: Operator, *, within: float) -> None:
    """Send a command until it is answered.

    The nucleus loses what is sent before the daemon has subscribed.
    """
    async with timeout(within):
        while True:
            try:
                await operator.ask("disk_space", within=1)
                return
            except TimeoutError:
                continue


async def test_a_start_offline_waits_and_listens_when_online(
    tmp_path: Path, object_server: ObjectServer
) -> None:
    async with (
        Broker(tmp_path / "broker") as broker,
        make_bench("lite", tmp_path, broker, object_server, {}) as bench,
    ):
        assert bench.nucleus is not None
        await broker.stop()
        await bench.nucleus.iot_core.wait_offline()
        await bench.device.start()
        await eventually(lambda: "opens no subscription to" in bench.device.log)
        await eventually(lambda: "listening on" in bench.device.log)
        await bench.nucleus.drop_connection(COMPONENT)  # the repair starts again
        await eventually(lambda: bench.device.log.count("connected to the nucleus") == 2)
        await broker.start()
        async with Operator(broker.port, bench.device.thing_name) as operator:
            await answer(operator, within=60)
        assert bench.device.returncode is None
        assert "CRITICAL" not in bench.device.log


async def test_commands_that_are_denied_end_nothing_and_are_told(lite: Bench) -> None:
    assert lite.nucleus is not None
    access = component_recipe().access_control
    commands = access["aws.greengrass.ipc.mqttproxy"].pop("aws.samples.S3Downloader:mqttproxy:2")
    assert "aws.greengrass#SubscribeToIoTCore" in commands["operations"]
    lite.nucleus.set_access_control(COMPONENT, access)
    await lite.device.start()
    notice = await lite.operator.wait_for(lambda h: h.message.get("level") == "warning")
    assert notice["error_code"] == "access_denied"
    assert "commands cannot be received" in notice["message"]
    assert "aws.greengrass#SubscribeToIoTCore" in notice["message"]
    assert lite.device.returncode is None
    assert await lite.device.terminate() == 0


async def test_it_ends_twice_at_once_and_then_goes_easy_on_starts(lite: Bench) -> None:
    """The unit of nucleus lite allows three starts per hour."""
    assert lite.nucleus is not None
    device, nucleus = lite.device, lite.nucleus
    for _ in range(2):
        lite.operator.received.clear()
        await device.start()
        await lite.up()
        await nucleus.restart(forget_tokens=True)
        async with timeout(PATIENCE):
            assert await device.wait() == 1
        await device.stop()
    lite.operator.received.clear()
    await device.start()
    await lite.up()
    await nucleus.restart(forget_tokens=True)
    await eventually(lambda: "it starts over in the same process" in device.log)
    assert device.returncode is None
    assert await device.terminate() == 0


@pytest.mark.parametrize("lite", [WIDE], indirect=True)
async def test_a_response_that_cuts_the_connection_comes_in_pages(lite: Bench) -> None:
    await lite.device.start()
    await lite.up()
    for number in range(8):
        text = "x" * 3_000
        await lite.operator.ask("model_add", model_meta={"model_id": f"m{number}", "text": text})
    first = await lite.operator.ask("model_list")
    assert 0 < len(first["models"]) < 8
    warning = await lite.operator.wait_for(
        lambda h: h.message.get("error_code") == "payload_too_large"
    )
    assert "set MaxPayloadBytes, which is 131072" in warning["message"]
    second = await lite.operator.ask("model_list", next_token=first["next_token"])
    assert [m["model_id"] for m in (*first["models"], *second["models"])][:4] == [
        "m0",
        "m1",
        "m2",
        "m3",
    ]
    assert lite.device.log.count("closed the IPC connection") == 2
