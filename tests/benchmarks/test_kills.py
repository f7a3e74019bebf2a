"""The benchmark with kills kills the daemon, and counts the bytes over the link."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.kills import random_moments, survive

MIB = 1 << 20


def test_random_moments_are_spread_and_repeatable() -> None:
    moments = random_moments(1000, 20, random.Random(1))
    assert moments == sorted(moments)
    assert len(moments) == 20
    assert 0 <= moments[0] < moments[-1] < 1000
    assert moments == random_moments(1000, 20, random.Random(1))


async def test_an_object_outlives_the_daemons_that_fetch_it(tmp_path: Path) -> None:
    survival = await survive(tmp_path, 16 * MIB, [4 * MIB, 10 * MIB], rate=30e6)
    assert survival.identical
    assert survival.kills == 2
    assert survival.ratio >= 1
