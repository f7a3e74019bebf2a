"""`python -m benchmarks NAME`: run one benchmark and print its Markdown."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from s3downloader.core.aio import timeout

from . import (
    burst,
    facts,
    idle,
    kills,
    latency,
    many,
    peers,
    planning,
    rough,
    start,
    throughput,
    verification,
)

BENCHMARKS = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        throughput,
        peers,
        kills,
        rough,
        verification,
        idle,
        latency,
        burst,
        many,
        planning,
        start,
    )
}
LIMIT = 7_200.0
"""Seconds after which a benchmark is given up."""


async def run(name: str, rounds: int, directory: Path, **options: Any) -> None:
    """Run a benchmark in `directory` and print what it measured."""
    print(facts.describe(directory), end="\n\n", flush=True)
    async with timeout(LIMIT):
        print(await BENCHMARKS[name].run(directory, rounds, **options))


def main() -> None:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the downloader against servers on this machine.",
        epilog="python -m benchmarks NAME --help tells the options of each.",
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        command = names.add_parser(name, help=benchmark.__doc__, description=benchmark.__doc__)
        command.add_argument(
            "--rounds", type=int, default=benchmark.ROUNDS, help="how often (%(default)s)"
        )
        command.add_argument(
            "--directory",
            type=Path,
            default=Path(tempfile.gettempdir()),
            help="where to work: on the disk that is to be measured, with 15 GiB free",
        )
        if hasattr(benchmark, "add_options"):
            benchmark.add_options(command)
    arguments = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=arguments["directory"]) as directory:
        arguments["directory"] = Path(directory)
        asyncio.run(run(**arguments))


if __name__ == "__main__":
    main()
