"""What the device says of itself unasked: periodic status, and notices of warnings."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ..contract import encode, responses
from ..core.aio import first_of, run_all
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode
from ..core.records import Download, State
from ..core.settings import Settings

__all__ = ["StatusReporter"]

log = logging.getLogger(__name__)

_MOST_NOTICES = 100

Take = Callable[[float], responses.Status]
"""Takes the status, with what has changed since a moment of the monotonic clock first."""

OnTold = Callable[[], Awaitable[None]]
"""What follows once a notice has been published; raises nothing."""


async def _do_nothing() -> None:
    return


class StatusReporter:
    """Publishes the status at intervals and after changes, and notices at once.

    The first change is told at once, those that follow it together, after StatusMinInterval. A
    status that cannot be sent is let go. Notices, one for each fault, wait for a status that can.
    """

    def __init__(
        self,
        *,
        device_id: str,
        publish: Callable[[bytes], Awaitable[None]],
        settings: Callable[[], Settings],
        clock: Clock,
    ) -> None:
        self._device_id = device_id
        self._publish = publish
        self._settings = settings
        self._clock = clock
        self._changed = asyncio.Event()
        self._reconfigured = asyncio.Event()
        self._noticed = asyncio.Event()
        self._notices: deque[tuple[responses.Notice, OnTold]] = deque(maxlen=_MOST_NOTICES)
        self._told_at = -math.inf
        """When the last status that was published was taken."""

    def changed(self) -> None:
        """Have the status published, now or once StatusMinInterval is over."""
        self._changed.set()

    def reconfigured(self) -> None:
        """Have the status published, and let changed intervals take effect."""
        self._reconfigured.set()
        self.changed()

    def warn(self, message: str, code: ErrorCode, on_told: OnTold = _do_nothing) -> None:
        """Log a warning and publish it; then await `on_told`."""
        log.warning("%s: %s", code.value, message)
        self._notify(on_told, level="warning", message=message, error_code=code)

    def fault(self, download: Download, error: DownloaderError) -> None:
        """Publish why a download failed, or what it had to get over, with all that is known."""
        self._notify(
            _do_nothing,
            level="error" if download.state is State.FAILED else "warning",
            message=error.message,
            error_code=error.code,
            error_details=error.details,
            download_id=download.download_id,
        )

    def _notify(self, on_told: OnTold, **fields: Any) -> None:
        now = self._clock.now()
        notice = responses.Notice(device_id=self._device_id, timestamp=now, **fields)
        self._notices.append((notice, on_told))
        self._noticed.set()

    async def run(self, status: Take, save: Callable[[], Awaitable[None]]) -> None:
        """Report until cancelled; what a `status` tells is on disk when `save` has returned."""
        await run_all(self._publish_statuses(status, save), self._publish_notices())

    async def _publish_statuses(self, status: Take, save: Callable[[], Awaitable[None]]) -> None:
        while True:
            self._changed.clear()
            began = self._clock.monotonic()
            active = await self._report(status, save)
            settings = self._settings()
            interval = settings.process_interval if active else settings.idle_process_interval
            await first_of(self._changed.wait(), self._clock.sleep(interval))
            await self._wait_min_interval(began)

    async def _wait_min_interval(self, began: float) -> None:
        """Return once the status may follow the one that `began` at that time."""
        while True:
            self._reconfigured.clear()
            left = began + self._settings().status_min_interval - self._clock.monotonic()
            if left <= 0:
                return
            await first_of(self._reconfigured.wait(), self._clock.sleep(left))

    async def _report(self, status: Take, save: Callable[[], Awaitable[None]]) -> bool:
        """Publish the status; tell whether anything is active."""
        taken_at = self._clock.monotonic()
        current = status(self._told_at)
        await save()
        if await self._send(current):
            self._told_at = taken_at
            self._noticed.set()
        return current.active_downloads > 0

    async def _publish_notices(self) -> None:
        while True:
            await self._noticed.wait()
            self._noticed.clear()
            while self._notices:
                notice, on_told = self._notices.popleft()
                if not await self._send(notice):
                    if len(self._notices) < _MOST_NOTICES:
                        self._notices.appendleft((notice, on_told))
                    break
                await on_told()

    async def _send(self, message: responses.Message) -> bool:
        """Publish a message; tell whether that could be done."""
        try:
            await self._publish(encode(message, self._settings().max_payload_bytes))
        except DownloaderError as error:
            log.debug("%s could not be sent: %s", type(message).__name__, error)
            return False
        return True
