"""Growing, random pauses between attempts, so that the devices of a fleet do not retry in step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

__all__ = ["backoff", "pause_after"]

_MOST_DOUBLINGS = 64  # exceeds any bound in use, and does not overflow a float


def pause_after(failures: int, shortest: float, longest: float) -> float:
    """Return the pause in seconds after this number of failures in a row, at least 1.

    The pause is at least `shortest` and at most `longest`. After the first failure it is a random
    number between `shortest` and twice that. Both bounds double with each failure, until the upper
    one is `longest` and the lower one is half of `longest`.
    """
    most = min(longest, shortest * 2.0 ** min(failures, _MOST_DOUBLINGS))
    least = max(shortest, most / 2)
    return random.uniform(least, most)  # noqa: S311 - spreads load, keeps no secret


def backoff(shortest: float, longest: float) -> Iterator[float]:
    """Yield the pauses of `pause_after` for 1, 2, 3 and more failures, without end."""
    for failures in count(1):
        yield pause_after(failures, shortest, longest)
