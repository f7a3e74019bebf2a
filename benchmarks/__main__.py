"""Runs a benchmark and prints its results as Markdown: `python -m benchmarks NAME`."""

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
"""The seconds after which a benchmark is stopped."""


async def run(name: str, rounds: int, directory: Path, **options: Any) -> None:
    """Run a benchmark in `directory`, and print its results."""
    print(facts.describe(directory), end="\n\n", flush=True)
    async with timeout(LIMIT):
        print(await BENCHMARKS[name].run(directory, rounds, **options))


def main() -> None:
    """Parse the command line and run the benchmark that it names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the downloader with servers on this machine.",
        epilog="python -m benchmarks NAME --help shows the options of a benchmark.",
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, benchmark in BENCHMARKS.items():
        command = names.add_parser(name, help=benchmark.__doc__, description=benchmark.__doc__)
        command.add_argument(
            "--rounds", type=int, default=benchmark.ROUNDS, help="number of rounds (%(default)s)"
        )
        command.add_argument(
            "--directory",
            type=Path,
            default=Path(tempfile.gettempdir()),
            help="a directory on the disk to be measured, with 15 GiB free (%(default)s)",
        )
        if hasattr(benchmark, "add_options"):
            benchmark.add_options(command)
    arguments = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=arguments["directory"]) as directory:
        arguments["directory"] = Path(directory)
        asyncio.run(run(**arguments))


if __name__ == "__main__":
    main()
