"""Tables and verdicts of a comparison match its figures."""

from __future__ import annotations

from benchmarks.comparison import Cost, compare, goals
from benchmarks.usage import Memory

MIB = 1 << 20


def cost(seconds: float, cpu: float = 1.0, mib: int = 50) -> Cost:
    return Cost(seconds, cpu, Memory(rss=(mib + 10) * MIB, pss=mib * MIB))


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    """A busy machine slows both contenders of a round; the ratio of the medians would be 2.00."""
    costs = {
        "daemon": [cost(2), cost(20), cost(4)],
        "s5cmd": [cost(1), cost(10), cost(8)],
    }
    rows = compare(costs).splitlines()[2:]
    assert rows == [
        "| daemon | 4.00 s | 1.00 s | 50 MiB | 1.00 | 1.00 |",
        "| s5cmd | 8.00 s | 1.00 s | 50 MiB | 2.00 | 1.00 |",
    ]


def test_goals_that_are_reached() -> None:
    costs = {
        "daemon": [cost(1.0, cpu=1.1, mib=128)],
        "s5cmd": [cost(1.5, cpu=1.0)],
        "rclone": [cost(1.0, cpu=2.0)],
    }
    time, cpu, memory = goals(costs)
    assert time.endswith("the best peer, rclone: 1.00, reached")
    assert cpu.endswith("that of s5cmd: 1.10, reached")
    assert memory.endswith(
        "at most 128 MiB: 128 MiB in the worst round,"
        " 138 MiB with shared pages counted in full, reached"
    )


def test_goals_that_are_missed() -> None:
    costs = {
        "daemon": [cost(1.1, cpu=2.0, mib=20), cost(1.1, cpu=2.0, mib=129)],
        "s5cmd": [cost(1.0, cpu=1.0), cost(1.0, cpu=1.0)],
    }
    assert [line.rpartition(", ")[2] for line in goals(costs)] == ["missed"] * 3


def test_without_s5cmd_there_is_no_goal_of_cpu() -> None:
    lines = goals({"daemon": [cost(1)], "aria2": [cost(1)]})
    assert [line[:8] for line in lines] == ["- wall t", "- memory"]


def test_the_daemon_alone_is_held_to_its_memory() -> None:
    assert [line[:8] for line in goals({"daemon": [cost(1)]})] == ["- memory"]


def test_without_the_daemon_there_are_no_ratios() -> None:
    costs = {"s5cmd": [cost(1)]}
    assert compare(costs).splitlines()[2] == "| s5cmd | 1.00 s | 1.00 s | 50 MiB |  |  |"
    assert goals(costs) == []
