"""The built component, installed by its own recipe into an empty folder without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.device import DeployedDevice
from sandbox.nucleus import Nucleus
from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer
from tools.fresh_root import main_job
from tools.project import Component

from ..support import NO_NETWORK


@pytest.mark.timeout(300)
async def test_the_built_component_is_installed_offline_and_does_its_job(
    tmp_path: Path, vendored: Component, broker: Broker, object_server: ObjectServer
) -> None:
    (tmp_path / "nucleus").mkdir()
    async with (
        Operator(broker.port, "deployed") as operator,
        Nucleus(
            thing_name="deployed",
            directory=tmp_path / "nucleus",
            broker_port=broker.port,
            credentials=object_server.environment,
        ) as nucleus,
        DeployedDevice(
            tmp_path / "device",
            {"AWS_ENDPOINT_URL_S3": object_server.endpoint},
            nucleus=nucleus,
            built=vendored.build_folder,
            configuration={"AllowedDestinations": [str(tmp_path)], "MinFreeBytes": 0},
            wrappers={"install": NO_NETWORK},
        ) as device,
    ):
        await operator.hear(lambda heard: heard.topic == "status", within=30)
        await main_job(operator, object_server, tmp_path / "models")
        assert await device.terminate() == 0
        operator.heard.clear()
        await device.start()  # Install finds everything there
        await operator.hear(lambda heard: heard.topic == "status", within=30)
        assert "install: everything is there already" in device.log

        installed = sum(f.lstat().st_size for f in nucleus.work_folder(vendored.name).rglob("*"))
        assert installed <= 120_000_000
