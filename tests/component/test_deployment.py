"""The built component, installed by its own recipe into an empty folder without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.device import DeployedDevice
from sandbox.nucleus import Nucleus
from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer
from tools.project import Component

from ..support import NO_NETWORK


@pytest.mark.timeout(300)
async def test_the_built_component_is_installed_offline_and_does_its_job(
    tmp_path: Path, vendored: Component, broker: Broker, object_server: ObjectServer
) -> None:
    await object_server.make("deployed/weights.bin", 4 << 20)
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
        response = await operator.ask(
            "download",
            bucket="models",
            key="deployed/",
            destination=str(tmp_path / "models"),
            download_id="d",
            model_meta={"model_id": "deployed"},
        )
        assert response["success"], response
        await operator.event("download_completed", "d")
        await operator.event("model_added", "d")
        [model] = (await operator.ask("model_list"))["models"]
        assert model["local_path"] == str(tmp_path / "models")
        assert (tmp_path / "models" / "weights.bin").stat().st_size == 4 << 20

        assert await device.terminate() == 0
        operator.heard.clear()
        await device.start()  # Install finds everything there
        await operator.hear(lambda heard: heard.topic == "status", within=30)
        assert "install: everything is there already" in device.log

        installed = sum(f.lstat().st_size for f in nucleus.work_folder(vendored.name).rglob("*"))
        assert installed <= 120_000_000
