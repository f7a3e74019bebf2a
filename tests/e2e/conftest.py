"""Devices with the real daemon, each with its own operator and link."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.device import Device, GreengrassDevice, MqttDevice
from sandbox.link import Link
from sandbox.nucleus import Nucleus
from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer
from sandbox.servers.s3 import S3Server

_numbers = itertools.count(1)


class Bench:
    """A device with an operator, a link to the object server and, on Greengrass, a nucleus."""

    def __init__(self, device: Device, operator: Operator, link: Link, nucleus: Nucleus | None):
        self.device = device
        self.operator = operator
        self.link = link
        self.nucleus = nucleus
        self.downloads = device.downloads

    async def up(self) -> None:
        """Wait until the daemon has published a status."""
        await self.operator.wait_for(lambda h: h.topic == "status")

    def statuses_of(self, download_id: str) -> list[dict[str, Any]]:
        """Return the entries of a download in all statuses so far."""
        statuses = (h.message for h in self.operator.received if h.topic == "status")
        shown = (download for status in statuses for download in status.get("downloads", []))
        return [download for download in shown if download["download_id"] == download_id]

    def leftovers(self) -> list[Path]:
        """Return the files of the downloader's own folders that are left in the downloads."""
        return [path for path in self.downloads.rglob("*") if ".s3downloader" in path.parts]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.asynccontextmanager
async def make_bench(
    via: str,
    directory: Path,
    broker: Broker,
    server: S3Server,
    configuration: dict[str, Any],
    *,
    broker_port: int | None = None,
    exchanging: bool = False,
) -> AsyncIterator[Bench]:
    """Make a device that is not started yet; `via` is "mqtt", "greengrass" or "lite".

    `broker_port` is the port to which an MQTT device connects, by default that of the broker. With
    `exchanging` the device gets its keys from the nucleus's token exchange service, else from its
    environment.
    """
    thing = f"device-{next(_numbers)}"
    configuration = {
        "DownloadDir": str(directory / "device" / "downloads"),
        "AllowedDestinations": [str(directory / "device" / "downloads")],
        "ProcessInterval": 0.2,
        "IdleProcessInterval": 1,
        "StatusMinInterval": 0,
        "MinFreeBytes": 0,
        **configuration,
    }
    async with contextlib.AsyncExitStack() as stack:
        operator = await stack.enter_async_context(Operator(broker.port, thing))
        link = await stack.enter_async_context(Link(server.port))
        environment = {} if exchanging else dict(server.environment)
        environment["AWS_ENDPOINT_URL_S3"] = link.endpoint
        nucleus = None
        device: Device
        if via != "mqtt":
            (directory / "nucleus").mkdir()
            nucleus = await stack.enter_async_context(
                Nucleus(
                    thing_name=thing,
                    directory=directory / "nucleus",
                    broker_port=broker.port,
                    personality="lite" if via == "lite" else "java",
                    credentials=server.environment if exchanging else None,
                )
            )
            device = GreengrassDevice(
                directory / "device", environment, nucleus=nucleus, configuration=configuration
            )
        else:
            device = MqttDevice(
                directory / "device",
                thing,
                environment,
                broker_port=broker_port or broker.port,
                configuration=configuration,
            )
        stack.push_async_callback(device.stop)
        yield Bench(device, operator, link, nucleus)


@pytest.fixture(params=["greengrass", "mqtt"])
async def either(
    request: pytest.FixtureRequest, tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A started device, once on Greengrass and once with MQTT alone."""
    async with make_bench(request.param, tmp_path, broker, object_server, {}) as bench:
        await bench.device.start()
        await bench.up()
        yield bench


@pytest.fixture
async def bench(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A started device with MQTT alone."""
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        await bench.device.start()
        await bench.up()
        yield bench


@pytest.fixture
async def greengrass(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A started device on the Java nucleus."""
    async with make_bench("greengrass", tmp_path, broker, object_server, {}) as bench:
        await bench.device.start()
        await bench.up()
        yield bench
