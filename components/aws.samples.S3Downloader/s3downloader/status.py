"""What the device says of itself unasked: periodic status, and notices of warnings."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from .aio import first_of
from .clock import Clock
from .contract import encode, responses
from .errors import DownloaderError, ErrorCode
from .records import Download, State
from .settings import Settings

__all__ = ["StatusReporter"]

log = logging.getLogger(__name__)

_MOST_NOTICES = 100

OnTold = Callable[[], Awaitable[None]]


async def _nothing_follows() -> None:
    return


class StatusReporter:
    """Publishes the status at intervals and on every change; what cannot be sent is let go."""

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
        self._notices: deque[tuple[responses.Notice, OnTold]] = deque(maxlen=_MOST_NOTICES)

    def changed(self) -> None:
        """Have the status published now."""
        self._changed.set()

    def warn(self, message: str, code: ErrorCode, on_told: OnTold = _nothing_follows) -> None:
        """Log a warning and publish it; then await `on_told`, which raises nothing."""
        log.warning("%s: %s", code.value, message)
        self._notify(on_told, level="warning", message=message, error_code=code)

    def fault(self, download: Download, error: DownloaderError) -> None:
        """Publish why a download failed, or what it had to get over, with all that is known."""
        self._notify(
            _nothing_follows,
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
        self.changed()

    async def run(
        self, status: Callable[[], responses.Status], prepare: Callable[[], Awaitable[None]]
    ) -> None:
        """Report until cancelled; `prepare` is awaited before each `status` is taken."""
        while True:
            self._changed.clear()
            active = await self._report(status, prepare)
            settings = self._settings()
            interval = settings.process_interval if active else settings.idle_process_interval
            await first_of(self._changed.wait(), self._clock.sleep(interval))

    async def _report(
        self, status: Callable[[], responses.Status], prepare: Callable[[], Awaitable[None]]
    ) -> bool:
        """Publish the status, then the notices; tell whether anything is active."""
        await prepare()
        current = status()
        try:
            await self._send(current)
            while self._notices:
                notice, on_told = self._notices[0]
                await self._send(notice)
                self._notices.popleft()
                await on_told()
        except DownloaderError as error:
            log.debug("the status could not be sent: %s", error)
        return current.active_downloads > 0

    async def _send(self, message: responses.Message) -> None:
        await self._publish(encode(message, self._settings().max_payload_bytes))
