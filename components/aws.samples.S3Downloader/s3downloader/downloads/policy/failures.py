"""Decides what an error makes of a download: it waits, starts again, or fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ...core.backoff import pause_after
from ...core.clock import Clock
from ...core.errors import DownloaderError, ErrorCode, Vanished
from ...core.records import Download, Failure, State
from ..active_download import ActiveDownload
from ..state_machine import StateMachine

__all__ = ["FailureHandler", "failure_of"]

log = logging.getLogger(__name__)

_SHORTEST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_WRITE_AGAIN = 10.0
_MOST_RESTARTS = 3
"""How often a download starts again because something removed its files, before it fails."""


class FailureHandler:
    """Records what follows from an error. If the disk of StateDir fails, it tries again."""

    def __init__(
        self,
        state_machine: StateMachine,
        clock: Clock,
        *,
        transient: frozenset[ErrorCode],
        on_fault: Callable[[Download, DownloaderError], None],
    ) -> None:
        """`transient` are the codes of errors that pass by themselves.

        `on_fault` is called if a download fails, starts again, or cannot continue to publish yet.
        """
        self._state_machine = state_machine
        self._clock = clock
        self._transient = transient
        self._on_fault = on_fault

    async def handle(self, active: ActiveDownload, error: DownloaderError) -> float | None:
        """Record what `error` makes of a download. Return when that is on disk.

        Returns the seconds after which the download must be queued again. None means never.
        """
        if isinstance(error, Vanished):
            if active.restarts < _MOST_RESTARTS:
                return await self._restart(active, error)
            error = _too_many_restarts(error)
        log.warning("%s: %s: %s", active.download.download_id, error.code.value, error.message)
        if error.code in self._transient:
            return await self._wait(active, error)
        await self._record(active, partial(self._state_machine.fail, active, failure_of(error)))
        self._on_fault(active.download, error)
        return None

    async def end_wait(self, active: ActiveDownload) -> None:
        """Record that a waiting download is queued again."""
        if active.download.state is State.WAITING:
            await self._record(active, partial(self._state_machine.queue, active))

    async def _restart(self, active: ActiveDownload, error: Vanished) -> float:
        log.warning("%s starts again: %s", active.download.download_id, error)
        self._on_fault(active.download, error)
        active.restarts += 1
        await self._record(active, partial(self._state_machine.queue, active))
        return 0.0

    async def _wait(self, active: ActiveDownload, error: DownloaderError) -> float:
        """Let a download wait. If it is publishing, it keeps its state, as after a restart.

        Returns the seconds to wait.
        """
        if active.download.state is not State.PUBLISHING:
            await self._record(active, partial(self._state_machine.wait, active, failure_of(error)))
        elif not active.failures_in_a_row:
            self._on_fault(active.download, error)
        active.failures_in_a_row += 1
        return pause_after(active.failures_in_a_row, _SHORTEST_WAIT, _LONGEST_WAIT)

    async def _record(self, active: ActiveDownload, change: Callable[[], Awaitable[None]]) -> None:
        """Record a change of state, and try again until it is on disk: the disk may be full.

        A change that the present state does not allow is dropped.
        """
        while True:
            try:
                await change()
            except DownloaderError as error:
                log.error("%s: %s", active.download.download_id, error)
                if error.code is ErrorCode.INVALID_STATE:
                    return
                await self._clock.sleep(_WRITE_AGAIN)
            else:
                return


def failure_of(error: DownloaderError) -> Failure:
    """Return the Failure that records an error."""
    return Failure(error.code, error.message, error.details)


def _too_many_restarts(error: Vanished) -> DownloaderError:
    return DownloaderError(
        error.code,
        f"{error.message}; this happened {_MOST_RESTARTS + 1} times, so first find out what removes"
        " files there, such as a job that cleans up",
        **error.details,
    )
