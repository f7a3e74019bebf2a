"""Growing pauses between attempts."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["backoff"]


def backoff(first: float, ceiling: float) -> Iterator[float]:
    """Yield pauses in seconds without end: about `first`, doubling up to about `ceiling`.

    Each is drawn from the upper half of its range, so that many clients do not come at once.
    """
    pause = first
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311 - spreads load, keeps no secret
        pause = min(2 * pause, ceiling)
