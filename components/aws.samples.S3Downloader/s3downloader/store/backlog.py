"""A queue on disk, of which the first part is in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

__all__ = ["Backlog"]

_READ_AHEAD = 32


class _Row(Protocol):
    @property
    def number(self) -> int: ...


Row = TypeVar("Row", bound=_Row)


class Backlog(Generic[Row]):
    """Rows of a table in the order of their numbers, which grow by one; the first are `ready`.

    However many there are, few are in memory: the others are read when these have been taken.
    """

    def __init__(self, read: Callable[[int, int], Awaitable[Sequence[Row]]]) -> None:
        """`read` takes a number and a limit, and returns the first rows with greater numbers."""
        self.ready: deque[Row] = deque()
        self._read = read
        self._last_ready = 0
        self._newest = 0
        self._took_over = False
        """Whether all has been read that an earlier process left."""

    @property
    def goes_on(self) -> bool:
        """Whether there may be rows on disk that were not ready yet."""
        return not self._took_over or self._last_ready < self._newest

    def wrote(self, row: Row) -> None:
        """Take up a row that is on disk."""
        self._newest = max(self._newest, row.number)
        if row.number == self._last_ready + 1 and len(self.ready) < _READ_AHEAD:
            self._make_ready(row)

    async def read_on(self) -> None:
        """Make rows ready that are on disk; raises what `read` does."""
        rows = await self._read(self._last_ready, _READ_AHEAD)
        self._took_over = self._took_over or len(rows) < _READ_AHEAD
        for row in rows:
            if row.number > self._last_ready:  # others were written while these were read
                self._make_ready(row)

    def _make_ready(self, row: Row) -> None:
        self._last_ready = row.number
        self.ready.append(row)
