"""Percentiles, tables and the capacity of a link."""

from __future__ import annotations

import pytest

from benchmarks.figures import percentile, table
from benchmarks.rough import LinkQuality


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 2), (75, 3), (76, 4), (100, 4)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile([4, 2, 3, 1], percent) == expected


def test_a_table_has_a_head_and_rows() -> None:
    assert table(["name", "size"], [["a", 1]]) == "| name | size |\n| --- | ---: |\n| a | 1 |"


def test_the_capacity_of_a_link() -> None:
    assert LinkQuality(bits=20e6, delay=0.05, resets=20).capacity(300) == 750e6
