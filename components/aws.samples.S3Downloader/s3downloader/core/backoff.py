"""Growing pauses between attempts, none of them fixed: so a fleet does not come back in step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

__all__ = ["backoff", "pause_after"]

_MOST_DOUBLINGS = 64  # beyond any ceiling, and far from what a float cannot hold


def pause_after(failures: int, shortest: float, longest: float) -> float:
    """Return the pause in seconds after so many failures in a row, counted from 1.

    It is never shorter than `shortest`, nor longer than `longest`. After the first failure it is
    drawn from `shortest` to twice that; both bounds double with each failure, until the upper one
    is `longest` and the lower one half of it.
    """
    most = min(longest, shortest * 2.0 ** min(failures, _MOST_DOUBLINGS))
    least = max(shortest, most / 2)
    return random.uniform(least, most)  # noqa: S311 - spreads load, keeps no secret


def backoff(shortest: float, longest: float) -> Iterator[float]:
    """Yield the pauses of `pause_after`, one failure after the other, without end."""
    for failures in count(1):
        yield pause_after(failures, shortest, longest)
