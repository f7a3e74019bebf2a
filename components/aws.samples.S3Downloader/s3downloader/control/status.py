"""Publishes the periodic status, and notices of warnings and errors."""

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

_MAX_NOTICES = 100

TakeStatus = Callable[[float], responses.Status]
"""Returns the status. Downloads that changed since a time of the monotonic clock come first."""

OnPublished = Callable[[], Awaitable[None]]
"""Called after a notice has been published. Must not raise."""


async def _do_nothing() -> None:
    return


class StatusReporter:
    """Publishes the status at intervals and after changes, and notices at once.

    The first change is published at once, later changes together after StatusMinInterval. A status
    that cannot be published is dropped. The last 100 notices are kept until a status could be
    published, and then sent again.
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
        self._notices: deque[tuple[responses.Notice, OnPublished]] = deque(maxlen=_MAX_NOTICES)
        self._reported_at = -math.inf
        """When the last published status was taken, by the monotonic clock."""

    def changed(self) -> None:
        """Publish the status soon: now, or when StatusMinInterval is over."""
        self._changed.set()

    def reconfigured(self) -> None:
        """Publish the status soon, with the changed intervals."""
        self._reconfigured.set()
        self.changed()

    def warn(self, message: str, code: ErrorCode, on_published: OnPublished = _do_nothing) -> None:
        """Log a warning and publish it as a notice. Then await `on_published`."""
        log.warning("%s: %s", code.value, message)
        self._notify(on_published, level="warning", message=message, error_code=code)

    def fault(self, download: Download, error: DownloaderError) -> None:
        """Publish a notice about a download: an error if it has failed, otherwise a warning.

        The notice has the details of `error`.
        """
        self._notify(
            _do_nothing,
            level="error" if download.state is State.FAILED else "warning",
            message=error.message,
            error_code=error.code,
            error_details=error.details,
            download_id=download.download_id,
        )

    def _notify(self, on_published: OnPublished, **fields: Any) -> None:
        now = self._clock.now()
        notice = responses.Notice(device_id=self._device_id, timestamp=now, **fields)
        self._notices.append((notice, on_published))
        self._noticed.set()

    async def run(self, status: TakeStatus, save: Callable[[], Awaitable[None]]) -> None:
        """Publish until cancelled.

        `save` is awaited before a status is published. It writes the reported progress to disk.
        """
        await run_all(self._publish_statuses(status, save), self._publish_notices())

    async def _publish_statuses(
        self, status: TakeStatus, save: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            self._changed.clear()
            began = self._clock.monotonic()
            active = await self._report(status, save)
            settings = self._settings()
            interval = settings.process_interval if active else settings.idle_process_interval
            await first_of(self._changed.wait(), self._clock.sleep(interval))
            await self._wait_min_interval(began)

    async def _wait_min_interval(self, began: float) -> None:
        """Wait until StatusMinInterval has passed since `began`, a time of the monotonic clock."""
        while True:
            self._reconfigured.clear()
            left = began + self._settings().status_min_interval - self._clock.monotonic()
            if left <= 0:
                return
            await first_of(self._reconfigured.wait(), self._clock.sleep(left))

    async def _report(self, status: TakeStatus, save: Callable[[], Awaitable[None]]) -> bool:
        """Publish the status. Return whether a download is active."""
        taken_at = self._clock.monotonic()
        current = status(self._reported_at)
        await save()
        if await self._send(current):
            self._reported_at = taken_at
            self._noticed.set()
        return current.active_downloads > 0

    async def _publish_notices(self) -> None:
        while True:
            await self._noticed.wait()
            self._noticed.clear()
            while self._notices:
                notice, on_published = self._notices.popleft()
                if not await self._send(notice):
                    if len(self._notices) < _MAX_NOTICES:
                        self._notices.appendleft((notice, on_published))
                    break
                await on_published()

    async def _send(self, message: responses.Message) -> bool:
        """Publish a message. Return whether it was published."""
        try:
            await self._publish(encode(message, self._settings().max_payload_bytes))
        except DownloaderError as error:
            log.debug("%s could not be sent: %s", type(message).__name__, error)
            return False
        return True
