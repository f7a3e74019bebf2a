"""Runs the component as a device does: by its recipe under the nucleus, or over MQTT alone."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from s3downloader.core.aio import timeout

from .nucleus import Nucleus, Recipe, RunningComponent, run_component

__all__ = [
    "COMPONENT",
    "SOURCE",
    "DeployedDevice",
    "Device",
    "GreengrassDevice",
    "MqttDevice",
    "component_recipe",
    "unpack",
]

COMPONENT = "aws.samples.S3Downloader"
SOURCE = Path(__file__).parent.parent / "components" / COMPONENT


def unpack(built: Path, directory: Path) -> Path:
    """Unpack the artifact in the folder `built` (greengrass-build) as the nucleus does.

    Returns `directory`, in which the folder main-artifact has the files.
    """
    [artifact] = built.glob("artifacts/*/*/main-artifact.zip")
    with zipfile.ZipFile(artifact) as archive:  # like the nucleus, it does not set file modes
        archive.extractall(directory / artifact.stem)
    return directory


def component_recipe(source: Path = SOURCE, component: str = COMPONENT) -> Recipe:
    """Return the recipe of the component in `source`, without its install step.

    The sandbox has already installed what the component needs.
    """
    recipe = dataclasses.replace(Recipe.load(source / "recipe.yaml"), component=component)
    for manifest in recipe.manifests:
        del manifest["Lifecycle"]["install"]
    return recipe


class Device:
    """A daemon process; `directory` has its state, its log and its downloads.

    An async context manager around `start` and `stop`.
    """

    def __init__(self, directory: Path, thing_name: str, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.thing_name = thing_name
        self.environment = dict(environment)
        self.downloads = directory / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        self._running: RunningComponent | None = None

    async def start(self) -> None:
        """Start the daemon. Does not wait until it has subscribed."""
        self._running = await self._launch()

    async def _launch(self) -> RunningComponent:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None before the end, and before the start."""
        return None if self._running is None else self._running.returncode

    @property
    def log(self) -> str:
        """The daemon's log so far."""
        assert self._running is not None
        return self._running.log.read_text(errors="replace")

    async def wait(self) -> int:
        """Wait until the daemon ends by itself, and return its exit status."""
        assert self._running is not None
        return await self._running.wait()

    async def terminate(self, *, within: float = 30.0) -> int:
        """Send SIGTERM and return the exit status.

        Raises TimeoutError if the daemon has not ended `within` seconds.
        """
        os.killpg(self.pid, signal.SIGTERM)
        async with timeout(within):
            status = await self.wait()
        await self.stop()
        return status

    async def kill(self) -> None:
        """Send SIGKILL to the daemon alone; its child processes must end by themselves."""
        os.kill(self.pid, signal.SIGKILL)
        await self.wait()
        await self.stop()

    async def stop(self) -> None:
        """End the daemon and its child processes, if they run."""
        if self._running is not None:
            await self._running.stop()

    async def __aenter__(self) -> Device:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


class MqttDevice(Device):
    """The daemon of the component in `folder`, without Greengrass.

    It connects to the broker on 127.0.0.1:`broker_port`. `configuration` is written to the file
    that is given to it with --config.
    """

    def __init__(
        self,
        directory: Path,
        thing_name: str,
        environment: Mapping[str, str],
        *,
        broker_port: int,
        configuration: Mapping[str, Any],
        folder: Path = SOURCE,
    ) -> None:
        super().__init__(directory, thing_name, environment)
        self.wrapper: list[str] = []
        """Words before the daemon's command line, such as `strace -f`."""
        self.folder = folder
        """The folder of the component that the next start runs."""
        self._broker_port = broker_port
        self._configuration = configuration

    async def _launch(self) -> RunningComponent:
        config = self.directory / "config.yaml"
        config.write_text(
            yaml.safe_dump({"StateDir": str(self.directory / "state"), **self._configuration})
        )
        command = (
            f"exec {shlex.join(self.wrapper)} {sys.executable} -u {self.folder}/main.py"
            f" --messaging mqtt --thing-name {self.thing_name}"
            f" --mqtt-url mqtt://127.0.0.1:{self._broker_port} --config {config}"
        )
        return await RunningComponent.start(
            command,
            cwd=self.directory,
            environment={"PATH": os.environ["PATH"], **self.environment},
            log=self.directory / "daemon.log",
        )


class GreengrassDevice(Device):
    """The daemon as a component of the local nucleus, started by the run step of its recipe.

    It uses the Python environment of this process. `configuration` is merged over the default
    configuration of the recipe.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        nucleus: Nucleus,
        configuration: Mapping[str, Any],
    ) -> None:
        super().__init__(directory, nucleus.thing_name, environment)
        self._nucleus = nucleus
        self._recipe = component_recipe()
        nucleus.register(
            COMPONENT, self._recipe.access_control, {**self._recipe.configuration, **configuration}
        )
        self._artifacts = directory / "artifacts"
        self._artifacts.mkdir()
        (self._artifacts / "main-artifact").symlink_to(SOURCE)
        venv = nucleus.work_folder(COMPONENT) / "venv"
        venv.symlink_to(sys.prefix)

    async def _launch(self) -> RunningComponent:
        return await run_component(
            self._nucleus,
            self._recipe,
            artifacts=self._artifacts,
            environment=self.environment,
        )


class DeployedDevice(Device):
    """The component as it is deployed: the built recipe with all its steps, and the artifact.

    `recipe` is the path of the built recipe, `artifacts` the folder that `unpack` returned.
    `wrappers` are those of `run_component`.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        nucleus: Nucleus,
        recipe: Path,
        artifacts: Path,
        configuration: Mapping[str, Any],
        wrappers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(directory, nucleus.thing_name, environment)
        self._nucleus = nucleus
        self._wrappers = wrappers
        self._artifacts = artifacts
        self._recipe = Recipe.load(recipe)
        nucleus.register(
            self._recipe.component,
            self._recipe.access_control,
            {**self._recipe.configuration, **configuration},
        )

    async def _launch(self) -> RunningComponent:
        return await run_component(
            self._nucleus,
            self._recipe,
            artifacts=self._artifacts,
            environment=self.environment,
            wrappers=self._wrappers,
        )
