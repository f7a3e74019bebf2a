"""The built component, installed by its own recipe into an empty folder without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from sandbox.device import DeployedDevice, Device
from sandbox.nucleus import Nucleus
from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer
from tools.fresh_root import main_job
from tools.project import Component

from ..support import NO_NETWORK


@asynccontextmanager
async def deployed(
    component: Component,
    directory: Path,
    broker: Broker,
    server: ObjectServer,
    personality: Literal["java", "lite"],
    *,
    installed: Path | None = None,
) -> AsyncIterator[tuple[Device, Operator, Path]]:
    """A device with the component, its operator and work folder; `installed` is there already."""
    thing = f"deployed-{personality}"
    (directory / "nucleus").mkdir(parents=True)
    async with (
        Operator(broker.port, thing) as operator,
        Nucleus(
            thing_name=thing,
            directory=directory / "nucleus",
            broker_port=broker.port,
            credentials=server.environment,
            personality=personality,
        ) as nucleus,
    ):
        work = nucleus.work_folder(component.name)
        if installed:
            (work / "venv").symlink_to(installed)
        async with DeployedDevice(
            directory / "device",
            {"AWS_ENDPOINT_URL_S3": server.endpoint},
            nucleus=nucleus,
            built=component.build_folder,
            configuration={"AllowedDestinations": [str(directory)], "MinFreeBytes": 0},
            wrappers={"install": NO_NETWORK},
        ) as device:
            await operator.hear(lambda heard: heard.topic == "status", within=30)
            yield device, operator, work


@pytest.mark.timeout(300)
async def test_the_built_component_is_installed_offline_and_does_its_job_on_both_nuclei(
    tmp_path: Path, vendored: Component, broker: Broker, object_server: ObjectServer
) -> None:
    java, lite = tmp_path / "java", tmp_path / "lite"
    async with deployed(vendored, java, broker, object_server, "java") as (device, operator, work):
        assert "install: installed for Python" in device.log
        await main_job(operator, object_server, java / "models")
        assert await device.terminate() == 0
        operator.heard.clear()
        await device.start()
        await operator.hear(lambda heard: heard.topic == "status", within=30)
        assert "install: everything is there already" in device.log
        installed = work / "venv"
        assert sum(file.lstat().st_size for file in installed.rglob("*")) <= 120_000_000
        async with deployed(vendored, lite, broker, object_server, "lite", installed=installed) as (
            _,
            other,
            _,
        ):
            await main_job(other, object_server, lite / "models")
