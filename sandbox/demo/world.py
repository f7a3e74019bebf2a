"""The servers and the device that the demo runs, all on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..device import COMPONENT, GreengrassDevice
from ..link import Link
from ..nucleus import Nucleus
from ..operator import Operator
from ..processes import accepts
from ..servers import Broker, ObjectServer
from ..shadow_service import ShadowService
from ..shadows import ShadowDocuments
from .failure import Failed

__all__ = ["THING", "World"]

THING = "edge-01"
_CHECK_INTERVAL = 0.5  # seconds


class World:
    """Creates the servers and the device with their files in `directory`, but starts none.

    The device connects to S3 through `link`, which carries `rate` bytes per second. `observe` is
    called with the topic and payload of each message that the operator sends or receives.
    """

    def __init__(
        self, directory: Path, *, rate: float, observe: Callable[[str, bytes], None]
    ) -> None:
        self.models = directory / "models"
        self.objects = ObjectServer(directory / "s3")
        self.broker = Broker(directory / "broker")
        self.link = Link(self.objects.port, rate=rate)
        shadows = ShadowDocuments()
        self.shadow_service = ShadowService(shadows, self.broker.port)
        role = {k: v for k, v in self.objects.environment.items() if "KEY" in k}
        nucleus_directory = directory / "nucleus"
        nucleus_directory.mkdir()
        self.nucleus = Nucleus(
            thing_name=THING,
            directory=nucleus_directory,
            broker_port=self.broker.port,
            shadows=shadows,
            credentials=role,
        )
        self.operator = Operator(self.broker.port, THING, observe=observe)
        self.device = GreengrassDevice(
            directory / "device",
            {"AWS_ENDPOINT_URL_S3": self.link.endpoint, "HOME": str(directory)},
            nucleus=self.nucleus,
            configuration={
                "DownloadDir": str(self.models),
                "AllowedDestinations": [str(self.models)],
                "ProcessInterval": 0.5,
                "StatusMinInterval": 0.5,
                "MinFreeBytes": 0,
            },
        )
        self._served: set[int] = set()
        """The ports that accepted connections at an earlier check."""

    async def watch(self) -> NoReturn:
        """Call `check` every 0.5 s."""
        while True:
            await self.check()
            await asyncio.sleep(_CHECK_INTERVAL)

    async def check(self) -> None:
        """Raise Failed if the component, the S3 server or the broker has run and has ended."""
        if self.device.returncode is not None:
            status = self.device.returncode
            raise Failed(f"The component ended by itself, with exit status {status}.")
        for name, port in (
            ("S3 server, SeaweedFS,", self.objects.port),
            ("MQTT broker, mosquitto,", self.broker.port),
        ):
            if await accepts(port):
                self._served.add(port)
            elif port in self._served:
                raise Failed(f"The {name} has ended: nothing listens on port {port}.")

    def log_tail(self, lines: int = 15) -> list[str]:
        """Return the last lines of the component's log."""
        log = self.nucleus.log_file(COMPONENT)
        return log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
