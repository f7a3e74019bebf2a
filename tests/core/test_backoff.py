"""The waits between attempts."""

from __future__ import annotations

from itertools import islice

import pytest

from s3downloader.core.backoff import backoff, pause_after

from ..support import assert_backs_off


@pytest.mark.parametrize(("shortest", "longest"), [(1.0, 30.0), (60.0, 3_600.0), (1.0, 1.5)])
def test_pauses_double_within_their_bounds(shortest: float, longest: float) -> None:
    for _ in range(100):
        assert_backs_off([*islice(backoff(shortest, longest), 12)], shortest, longest)


def test_devices_do_not_wait_alike() -> None:
    assert len({pause_after(1, 1.0, 30.0) for _ in range(100)}) > 90


def test_failures_without_end_wait_the_longest() -> None:
    assert 15.0 <= pause_after(1_000_000, 1.0, 30.0) <= 30.0
