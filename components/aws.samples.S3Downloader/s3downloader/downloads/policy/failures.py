"""What becomes of a download that a fault has stopped: it waits, begins again, or fails."""

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
"""How often a download begins again because something removes its files, before it gives up."""


class FailureHandler:
    """Records what follows from a fault, as soon as StateDir's disk takes it."""

    def __init__(
        self,
        state_machine: StateMachine,
        clock: Clock,
        *,
        transient: frozenset[ErrorCode],
        on_fault: Callable[[Download, DownloaderError], None],
    ) -> None:
        """`transient` are the codes of faults that pass by themselves.

        `on_fault` is called where a download fails, begins again, or cannot go on publishing yet.
        """
        self._state_machine = state_machine
        self._clock = clock
        self._transient = transient
        self._on_fault = on_fault

    async def handle(self, active: ActiveDownload, error: DownloaderError) -> float | None:
        """Record what `error` makes of a download, and return once that is on disk.

        Returns after how many seconds the download is to be queued again, None for never.
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
        """Record that a download which waited is queued again."""
        if active.download.state is State.WAITING:
            await self._record(active, partial(self._state_machine.queue, active))

    async def _restart(self, active: ActiveDownload, error: Vanished) -> float:
        log.warning("%s begins again: %s", active.download.download_id, error)
        self._on_fault(active.download, error)
        active.restarts += 1
        await self._record(active, partial(self._state_machine.queue, active))
        return 0.0

    async def _wait(self, active: ActiveDownload, error: DownloaderError) -> float:
        """Have a download wait. One that is publishing keeps its state, as a restart would."""
        if active.download.state is not State.PUBLISHING:
            await self._record(active, partial(self._state_machine.wait, active, failure_of(error)))
        elif not active.failures_in_a_row:
            self._on_fault(active.download, error)
        active.failures_in_a_row += 1
        return pause_after(active.failures_in_a_row, _SHORTEST_WAIT, _LONGEST_WAIT)

    async def _record(self, active: ActiveDownload, change: Callable[[], Awaitable[None]]) -> None:
        """Make a change of state as soon as it can be written: the disk may be full for a while.

        One that the present state does not allow is left out.
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
    """Return what a record keeps of an error."""
    return Failure(error.code, error.message, error.details)


def _too_many_restarts(error: Vanished) -> DownloaderError:
    return DownloaderError(
        error.code,
        f"{error.message}. It happened {_MOST_RESTARTS + 1} times: first find out what removes"
        " files there, such as a job that cleans up",
        **error.details,
    )
