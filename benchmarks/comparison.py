"""Compares what contenders used for the same downloads, with each other and with the goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .figures import table
from .usage import Memory

__all__ = ["DAEMON", "Cost", "compare", "goals"]

DAEMON = "daemon"
_CPU_PEER = "s5cmd"
_MOST_TIME, _MOST_CPU, _MOST_MEMORY = 1.00, 1.10, 128 << 20

Costs = Mapping[str, Sequence["Cost"]]
"""The costs of all rounds, by the name of the contender."""


class Cost(NamedTuple):
    """The cost of one download: seconds, seconds of CPU time, and peak memory in bytes.

    CPU time and memory are those of all processes of the contender together.
    """

    seconds: float
    cpu: float
    peak: Memory


def compare(costs: Costs) -> str:
    """Return a table of medians. A ratio is the median of the ratios of all rounds."""
    rounds = len(next(iter(costs.values())))
    head = [
        f"medians of {rounds} rounds",
        "wall time",
        "CPU time",
        "peak memory",
        "wall time ratio",
        "CPU time ratio",
    ]
    return table(head, [_row(name, costs) for name in costs])


def goals(costs: Costs) -> list[str]:
    """Return a line for each goal: the goal, the measured figure, and whether it was reached."""
    if DAEMON not in costs:
        return []
    lines = [_memory_goal(costs[DAEMON])]
    peers = {name: _median(_seconds, taken) for name, taken in costs.items() if name != DAEMON}
    if peers:
        best = min(peers, key=peers.__getitem__)
        ratio = _ratio(_seconds, costs, best)
        what = f"wall time at most {_MOST_TIME:.2f} times that of the best peer, {best}"
        lines.insert(0, _verdict(what, f"{ratio:.2f}", ratio <= _MOST_TIME))
    if _CPU_PEER in costs:
        ratio = _ratio(_cpu, costs, _CPU_PEER)
        what = f"CPU time at most {_MOST_CPU:.2f} times that of {_CPU_PEER}"
        lines.insert(1, _verdict(what, f"{ratio:.2f}", ratio <= _MOST_CPU))
    return lines


def _memory_goal(daemon: Sequence[Cost]) -> str:
    most = max(cost.peak.pss for cost in daemon)
    in_full = max(cost.peak.rss for cost in daemon)
    figure = f"{_mib(most)} in the worst round, {_mib(in_full)} with shared pages counted in full"
    what = f"memory of the daemon and its children at most {_mib(_MOST_MEMORY)}"
    return _verdict(what, figure, most <= _MOST_MEMORY)


def _verdict(what: str, figure: str, reached: bool) -> str:
    return f"- {what}: {figure}, {'reached' if reached else 'missed'}"


def _row(name: str, costs: Costs) -> list[str]:
    own = costs[name]
    ratios = ["", ""]
    if DAEMON in costs:
        ratios = [f"{_ratio(figure, costs, name):.2f}" for figure in (_seconds, _cpu)]
    return [
        name,
        f"{_median(_seconds, own):.2f} s",
        f"{_median(_cpu, own):.2f} s",
        _mib(statistics.median(cost.peak.pss for cost in own)),
        *ratios,
    ]


def _ratio(figure: Callable[[Cost], float], costs: Costs, name: str) -> float:
    """Return the median over all rounds of the daemon's figure divided by that of `name`."""
    rounds = zip(costs[DAEMON], costs[name], strict=True)
    return statistics.median(figure(ours) / figure(theirs) for ours, theirs in rounds)


def _median(figure: Callable[[Cost], float], costs: Sequence[Cost]) -> float:
    return statistics.median(map(figure, costs))


def _seconds(cost: Cost) -> float:
    return cost.seconds


def _cpu(cost: Cost) -> float:
    return cost.cpu


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
