"""Growing pauses between attempts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

__all__ = ["backoff", "pause_after"]

_MOST_DOUBLINGS = 64  # beyond any ceiling, and far from what a float cannot hold


def pause_after(failures: int, first: float, ceiling: float) -> float:
    """Return the pause in seconds after so many failures in a row, counted from 1.

    It is about `first`, doubling with each failure up to about `ceiling`. It is drawn from the
    upper half of its range, so that many clients do not come at once.
    """
    longest = min(ceiling, first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, keeps no secret


def backoff(first: float, ceiling: float) -> Iterator[float]:
    """Yield the pauses of `pause_after`, one failure after the other, without end."""
    for failures in count(1):
        yield pause_after(failures, first, ceiling)
