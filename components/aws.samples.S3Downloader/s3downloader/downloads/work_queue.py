"""Lets so many downloads work at once, the first in the queue first."""

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
    """The queue, and the slots of those at work: at most MaxConcurrentDownloads.

    A slot is given to the next download only when the record of what stopped this one is on disk:
    `work` calls `release` then, and who stops a download from outside does that in `stopped`.
    """

    def __init__(
        self,
        work: Callable[[ActiveDownload], Coroutine[None, None, None]],
        *,
        limit: Callable[[], int],
        state_machine: StateMachine,
    ) -> None:
        """`work` takes a download as far as it comes; `limit` returns how many may work now."""
        self._work = work
        self._limit = limit
        self._state_machine = state_machine
        self._queue: deque[ActiveDownload] = deque()
        self._slots: set[ActiveDownload] = set()
        self._group: TaskGroup | None = None

    @contextmanager
    def working_in(self, group: TaskGroup) -> Iterator[None]:
        """Begin work, whose tasks are in `group`; before and after that downloads only queue."""
        self._group = group
        self.schedule()
        try:
            yield
        finally:
            self._group = None

    def add(self, active: ActiveDownload) -> None:
        """Queue a download; one that still has its slot goes on at once."""
        self._state_machine.requeue(active)
        if active in self._slots:
            self._begin(active)
        else:
            self._queue.append(active)
            self.schedule()

    def release(self, active: ActiveDownload) -> None:
        """Give the slot of a download, if it has one, to the next."""
        self._slots.discard(active)
        self.schedule()

    def schedule(self) -> None:
        """Let the first in the queue work while there are slots."""
        while self._group and self._queue and len(self._slots) < self._limit():
            active = self._queue.popleft()
            self._slots.add(active)
            self._begin(active)

    @asynccontextmanager
    async def stopped(self, active: ActiveDownload) -> AsyncIterator[None]:
        """Stop the work on a download, so that its state can be changed inside.

        On leaving, its slot is given to the next, unless the download is still to be worked on,
        as when its new state could not be recorded: then it goes on, in its slot if it has one.
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
            await stop(active.task)  # which may have queued it again before it heeded that
