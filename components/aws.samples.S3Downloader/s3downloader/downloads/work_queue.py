"""The queue of downloads. Limits how many run at once."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager

from ..core.aio import TaskGroup, stop
from ..core.records import ACTIVE
from .active_download import ActiveDownload
from .state_machine import StateMachine

__all__ = ["WorkQueue"]


class WorkQueue:
    """A queue of downloads, first in, first out, and the slots of those that run.

    A slot is passed to the next download only when the change that stopped this one is on disk. So
    `work` calls `release` after that. A command that stops a download changes its state within
    `stopped`.
    """

    def __init__(
        self,
        work: Callable[[ActiveDownload], Coroutine[None, None, None]],
        *,
        limit: Callable[[], int],
        state_machine: StateMachine,
    ) -> None:
        """`work` runs a download until it ends or stops; `limit` returns how many may run."""
        self._work = work
        self._limit = limit
        self._state_machine = state_machine
        self._queue: deque[ActiveDownload] = deque()
        self._slots: set[ActiveDownload] = set()
        self._group: TaskGroup | None = None

    @contextmanager
    def working_in(self, group: TaskGroup) -> Iterator[None]:
        """Run downloads in tasks of `group` within the context. Outside it, only queue them."""
        self._group = group
        self.schedule()
        try:
            yield
        finally:
            self._group = None

    def add(self, active: ActiveDownload) -> None:
        """Queue a download. If it still has its slot, start it at once."""
        self._state_machine.requeue(active)
        if active in self._slots:
            self._begin(active)
        else:
            self._queue.append(active)
            self.schedule()

    def release(self, active: ActiveDownload) -> None:
        """Pass the slot of a download, if it has one, to the next download."""
        self._slots.discard(active)
        self.schedule()

    def schedule(self) -> None:
        """Start downloads from the front of the queue while slots are free."""
        while self._group and self._queue and len(self._slots) < self._limit():
            active = self._queue.popleft()
            self._slots.add(active)
            self._begin(active)

    @asynccontextmanager
    async def stopped(self, active: ActiveDownload) -> AsyncIterator[None]:
        """Stop a download while the context is open, so that its state can be changed.

        Afterwards its slot is passed on. But if the download is still in an active state, for
        example because its new state could not be recorded, it continues, in its slot if it has
        one.
        """
        await self._stop(active)
        try:
            yield
        finally:
            if active.download.state in ACTIVE:
                self.add(active)
            else:
                self.release(active)

    def _begin(self, active: ActiveDownload) -> None:
        if self._group:
            active.task = self._group.create_task(self._work(active))

    async def _stop(self, active: ActiveDownload) -> None:
        while active in self._queue or (active.task and not active.task.done()):
            if active in self._queue:
                self._queue.remove(active)
            await stop(active.task)  # the task may have queued the download again before it ended
