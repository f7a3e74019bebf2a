"""Keeps a component running, as the nucleus does. Nucleus lite does it with a systemd unit.

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
"""Exit statuses that are not a failure, as for Restart=on-failure."""


class StartLimitError(Exception):
    """The unit has been started too often; it stays `failed` until `reset_failed`."""


class Service(Protocol):
    """The process that a unit runs: a device of the sandbox."""

    async def start(self) -> None:
        """Start the process, which does not run."""

    async def wait(self) -> int:
        """Wait until the process ends; return its exit status, negative for a signal."""

    async def stop(self) -> None:
        """End the process if it runs."""


class Unit:
    """Starts a component, and starts it again after a failure; an async context manager.

    Nucleus lite limits the number of starts per hour. It also stops a component with a HARD
    dependency on TokenExchangeService when that service ends, and does not start it again
    (BindsTo).
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
        self._restarting: asyncio.Task[None] | None = None
        is_hard = recipe.dependencies.get(TOKEN_EXCHANGE) == "HARD"
        if is_hard and self._personality.hard_dependencies_bind:
            nucleus.credentials.on_crash.append(self.stop)

    async def __aenter__(self) -> Unit:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the component, as `systemctl start` does. Raises StartLimitError."""
        await self._start()
        self._restarting = background(self._restart_after_failures())

    async def stop(self) -> None:
        """Stop the component, as `systemctl stop` does; it is not started again."""
        await stop(self._restarting)
        await self._service.stop()
        self.state = "inactive"

    def reset_failed(self) -> None:
        """Reset the count of starts, as `systemctl reset-failed` does."""
        self._started_at.clear()
        if self.state == "failed":
            self.state = "inactive"

    async def deploy(self, configuration: Mapping[str, Any]) -> None:
        """Carry out a deployment that merges `configuration` into that of the component."""
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

    async def _restart_after_failures(self) -> None:
        while await self._service.wait() not in _CLEAN:
            await self._clock.sleep(_RESTART_SECONDS)
            try:
                await self._start()
            except StartLimitError:
                return
        self.state = "inactive"
