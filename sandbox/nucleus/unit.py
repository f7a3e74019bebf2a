"""A component as the nucleus keeps it running: for nucleus lite, as the unit of systemd it makes.

Sources: modules/recipe2unit/src/unit_file_generator.c and modules/ggdeploymentd of
aws-greengrass-lite; systemd.unit(5), systemd.service(5).
"""

from __future__ import annotations

import asyncio
import signal
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from s3downloader.core.aio import background, stop
from s3downloader.core.clock import Clock

from .nucleus import TOKEN_EXCHANGE, Nucleus
from .recipe import Recipe

__all__ = ["Service", "StartLimitError", "Unit"]

_RESTART_SECONDS = 1.0
_CLEAN = {0, *(-number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))}


class StartLimitError(Exception):
    """The unit was started too often; it stays `failed` until reset_failed()."""


class Service(Protocol):
    """What runs: a device of the sandbox."""

    async def start(self) -> None:
        """Start it; it does not run yet, or no more."""

    async def wait(self) -> int:
        """Return its exit status, negative for a signal."""

    async def stop(self) -> None:
        """End it, however it stands."""


class Unit:
    """Starts a component again after a failure; an async context manager, which stops it.

    On nucleus lite only so often an hour, and where it has a HARD dependency on
    TokenExchangeService that is a BindsTo: it is stopped when that dies, and not started again.
    """

    def __init__(self, service: Service, nucleus: Nucleus, recipe: Recipe, clock: Clock) -> None:
        self.state: Literal["inactive", "active", "failed"] = "inactive"
        self.starts = 0
        self._service = service
        self._nucleus = nucleus
        self._component = recipe.component
        self._personality = nucleus.personality
        self._clock = clock
        self._started_at: deque[float] = deque()
        self._checkpointer: asyncio.Task[None] | None = None
        is_hard = recipe.dependencies.get(TOKEN_EXCHANGE) == "HARD"
        if is_hard and self._personality.hard_dependencies_bind:
            nucleus.credentials.on_crash.append(self.stop)

    async def __aenter__(self) -> Unit:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """`systemctl start`. Raises StartLimitError."""
        await self._start()
        self._checkpointer = background(self._keep())

    async def stop(self) -> None:
        """`systemctl stop`: it stays so."""
        await stop(self._checkpointer)
        await self._service.stop()
        self.state = "inactive"

    def reset_failed(self) -> None:
        """`systemctl reset-failed`: forget the starts so far."""
        self._started_at.clear()
        if self.state == "failed":
            self.state = "inactive"

    async def deploy(self, configuration: Mapping[str, Any]) -> None:
        """Carry out a deployment that merges `configuration` into the component's."""
        self._nucleus.set_configuration(self._component, configuration)
        if self._personality.configuration_restarts:
            self.reset_failed()
            await self.stop()
            await self.start()

    async def _start(self) -> None:
        now, burst = self._clock.monotonic(), self._personality.start_burst
        while self._started_at and now - self._started_at[0] >= self._personality.start_interval:
            self._started_at.popleft()
        if burst is not None and len(self._started_at) >= burst:
            self.state = "failed"
            raise StartLimitError(f"{self._component} was started {burst} times within the hour")
        self._started_at.append(now)
        self.starts += 1
        await self._service.start()
        self.state = "active"

    async def _keep(self) -> None:
        while await self._service.wait() not in _CLEAN:
            await self._clock.sleep(_RESTART_SECONDS)
            try:
                await self._start()
            except StartLimitError:
                return
        self.state = "inactive"
