"""The component as deployed:

built, unpacked, and installed by its recipe without a network.

On nucleus lite it is deployed by hand, with the commands of docs/deployment.md.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import pytest

from s3downloader.core.clock import SystemClock
from sandbox.device import DeployedDevice, Device, MqttDevice, unpack
from sandbox.nucleus import Nucleus, Recipe, Unit
from sandbox.operator import Operator
from sandbox.servers import Broker, ObjectServer
from tools.build import build
from tools.fresh_root import main_job
from tools.project import ROOT, Component

from ..support import NO_NETWORK, eventually
from ..tools.checkout import copy_of_the_downloader

PAGE = (ROOT / "docs" / "deployment.md").read_text()
LITE_ROOT = "/var/lib/greengrass"
OPEN_UMASK = ["sh", "-c", 'umask 0; exec "$@"', "sh"]

GGL_CLI = """\
#!/bin/sh
# As ggl-cli and ggdeploymentd of nucleus lite: recipes are copied, nothing is unpacked.
set -eu
[ "$1 $2 $4" = "deploy --recipe-dir --add-component" ] || { echo "unknown: $*" >&2; exit 64; }
name=${5%%=*} version=${5#*=}
mkdir -p ROOT/packages/recipes
cp -RP "$3/." ROOT/packages/recipes
recipe=ROOT/packages/recipes/$name-$version.yaml
grep -qx "ComponentName: \\"$name\\"" "$recipe"
grep -qx "ComponentVersion: \\"$version\\"" "$recipe"
echo "$version" | grep -Eqx '[0-9]+[.][0-9]+[.][0-9]+'
"""


@asynccontextmanager
async def deployed(
    personality: Literal["java", "lite"],
    directory: Path,
    broker: Broker,
    server: ObjectServer,
    **deployment: Any,
) -> AsyncIterator[tuple[Nucleus, Device, Operator]]:
    """A nucleus with the component, its device, which is not started, and its operator."""
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
        device = DeployedDevice(
            directory / "device",
            {"AWS_ENDPOINT_URL_S3": server.endpoint},
            nucleus=nucleus,
            configuration={"DownloadDir": str(directory / "models"), "MinFreeBytes": 0},
            wrappers={"install": [*NO_NETWORK, *OPEN_UMASK]},
            **deployment,
        )
        try:
            yield nucleus, device, operator
        finally:
            await device.stop()


async def comes_up(device: Device, times: int = 1) -> None:
    """Wait until the daemon receives commands."""
    await eventually(lambda: device.log.count("listening on") == times, within=120)


@pytest.mark.timeout(300)
async def test_java_installs_it_offline_and_it_does_its_job(
    tmp_path: Path, vendored: Component, broker: Broker, object_server: ObjectServer
) -> None:
    artifacts = unpack(vendored.build_folder, tmp_path / "artifacts")
    async with deployed(
        *("java", tmp_path, broker, object_server),
        recipe=vendored.built_recipe,
        artifacts=artifacts,
    ) as (nucleus, device, operator):
        await device.start()
        await comes_up(device)
        assert "install: installed for Python" in device.log
        await main_job(operator, object_server, tmp_path / "models" / "deployed")
        assert await device.terminate() == 0
        await device.start()
        await comes_up(device, 2)
        assert "install: everything is there already" in device.log
        installed = [*(nucleus.work_folder(vendored.name) / "venv").rglob("*")]
        assert sum(file.lstat().st_size for file in installed) <= 120_000_000
        writable = [f for f in installed if not f.is_symlink() and f.stat().st_mode & 0o022]
        assert writable == [], "nobody else can change what is run, whatever the umask"


async def test_the_built_artifact_does_its_job(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    """The packed files have no comments and docstrings, but must work all the same."""
    component = copy_of_the_downloader(tmp_path / "checkout")
    build(component)
    folder = unpack(component.build_folder, tmp_path / "artifacts") / "main-artifact"
    device = MqttDevice(
        tmp_path / "device",
        "built",
        object_server.environment,
        broker_port=broker.port,
        configuration={"DownloadDir": str(tmp_path / "models"), "MinFreeBytes": 0},
        folder=folder,
    )
    async with Operator(broker.port, "built") as operator, device:
        await comes_up(device)
        await main_job(operator, object_server, tmp_path / "models" / "deployed")
        assert await device.terminate() == 0
    assert [*folder.glob("s3downloader/app/__pycache__/daemon.*.pyc")], "its own modules ran"


@pytest.fixture
def by_hand(tmp_path: Path, vendored: Component) -> tuple[Path, Path]:
    """Deploy with the commands of the page; return the recipe and the folder of the artifact."""
    root, clone, programs = tmp_path / "greengrass", tmp_path / "clone", tmp_path / "programs"
    copy_of_the_downloader(clone)
    shutil.copytree(ROOT / "tools", clone / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "build_all.sh", clone)
    programs.mkdir()
    for name, body in {
        "sudo": '#!/bin/sh\nexec "$@"\n',
        "chown": "#!/bin/sh\n",  # this machine has no user gg_component
        "ggl-cli": GGL_CLI.replace("ROOT", str(root)),
    }.items():
        (programs / name).write_text(body)
        (programs / name).chmod(0o755)
    [commands] = [block for block in shell_blocks() if "ggl-cli deploy" in block]
    assert LITE_ROOT in commands
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run(
        ["bash", "-euc", commands.replace(LITE_ROOT, str(root))],
        cwd=clone,
        env={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "S3DOWNLOADER_BUILD_ARGUMENTS": f"--vendor --platform {platform.machine()}"
            f" --python {python}",
        },
        check=True,
    )
    [recipe] = (root / "packages" / "recipes").iterdir()
    [artifacts] = (root / "packages" / "artifacts-unarchived").glob("*/*")
    assert recipe.stem == f"{vendored.name}-{artifacts.name}"
    return recipe, artifacts


def shell_blocks() -> list[str]:
    """Return the blocks of shell commands of the page."""
    return re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)


class ImpatientClock(SystemClock):
    """The machine's clock, but sleeps take no time."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.mark.timeout(300)
async def test_lite_runs_what_the_page_deploys_by_hand(
    tmp_path: Path, by_hand: tuple[Path, Path], broker: Broker, object_server: ObjectServer
) -> None:
    recipe, artifacts = by_hand
    async with deployed(
        *("lite", tmp_path, broker, object_server), recipe=recipe, artifacts=artifacts
    ) as (nucleus, device, operator):
        nucleus.credentials.lifetime = timedelta(seconds=1)
        async with Unit(device, nucleus, Recipe.load(recipe), ImpatientClock()) as unit:
            await comes_up(device)
            await main_job(operator, object_server, tmp_path / "models" / "deployed")

            await exchange_moves(nucleus, operator, object_server)
            assert (unit.state, unit.starts) == ("active", 1)

            await unit.deploy({"LogLevel": "DEBUG"})
            await comes_up(device, 2)
            assert unit.starts == 2
            assert (await operator.ask("model_list"))["models"]

            await start_limit(unit, device, operator)


async def exchange_moves(nucleus: Nucleus, operator: Operator, server: ObjectServer) -> None:
    """Crash and move the token exchange service: a download waits, and continues."""
    await server.put("deployed/later", b"later")
    before = nucleus.credentials.uri
    await nucleus.credentials.crash()
    await eventually(lambda: datetime.now(timezone.utc) > nucleus.credentials.expires_at)
    await operator.ask("download", bucket="models", key="deployed/later", download_id="later")
    await operator.wait_for(
        lambda received: any(
            download["download_id"] == "later" and download["status"] == "waiting"
            for download in received.message.get("downloads", ())
        )
    )
    await nucleus.credentials.start()
    assert nucleus.credentials.uri != before
    await operator.event("download_completed", "later")


async def start_limit(unit: Unit, device: Device, operator: Operator) -> None:
    """Check that the component is started three times within an hour, then `failed` until reset."""
    before = unit.starts
    for number in (1, 2):
        os.kill(device.pid, signal.SIGKILL)
        await comes_up(device, before + number)
        assert unit.starts == before + number
    os.kill(device.pid, signal.SIGKILL)
    await eventually(lambda: unit.state == "failed")
    [reset, start] = next(block for block in shell_blocks() if "reset-failed" in block).splitlines()
    assert reset.split() == ["sudo", "systemctl", "reset-failed", "ggl.aws.samples.S3Downloader"]
    unit.reset_failed()
    assert start.split() == ["sudo", "systemctl", "start", "ggl.aws.samples.S3Downloader"]
    await unit.start()
    await comes_up(device, before + 3)
    assert (await operator.ask("model_list"))["models"], "nothing was lost"
