"""Percentiles and tables."""

from __future__ import annotations

import pytest

from benchmarks.figures import percentile, table
from benchmarks.rough import Road


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 2), (75, 3), (76, 4), (100, 4)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile([4, 2, 3, 1], percent) == expected


def test_a_table_has_a_head_and_rows() -> None:
    assert table(["name", "size"], [["a", 1]]) == "| name | size |\n| --- | ---: |\n| a | 1 |"


def test_a_road_allows_its_rate() -> None:
    assert Road(bits=20e6, delay=0.05, resets=20).allows(300) == 750e6
