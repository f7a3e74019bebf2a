"""A queue on disk whose first rows are in memory."""

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
    """Rows of a table in the order of their numbers, which grow by one. The first are in `ready`.

    Only these are in memory, so a long queue takes no more memory than a short one. The others are
    read when these have been taken.
    """

    def __init__(self, read: Callable[[int, int], Awaitable[Sequence[Row]]]) -> None:
        """`read(number, limit)` returns the first rows with a greater number, at most `limit`."""
        self.ready: deque[Row] = deque()
        self._read = read
        self._last_ready = 0
        self._newest = 0
        self._caught_up = False
        """Whether all rows that an earlier process left have been read."""

    @property
    def has_more(self) -> bool:
        """Whether there may be rows on disk that have never been in `ready`."""
        return not self._caught_up or self._last_ready < self._newest

    def add(self, row: Row) -> None:
        """Add a row that has just been written to disk."""
        self._newest = max(self._newest, row.number)
        if row.number == self._last_ready + 1 and len(self.ready) < _READ_AHEAD:
            self._make_ready(row)

    async def read_more(self) -> None:
        """Read the next rows from disk into `ready`. Raises what `read` raises."""
        rows = await self._read(self._last_ready, _READ_AHEAD)
        self._caught_up = self._caught_up or len(rows) < _READ_AHEAD
        for row in rows:
            if row.number > self._last_ready:  # `add` may have added some of them meanwhile
                self._make_ready(row)

    def _make_ready(self, row: Row) -> None:
        self._last_ready = row.number
        self.ready.append(row)
