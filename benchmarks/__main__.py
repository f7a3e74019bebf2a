"""`python -m benchmarks NAME`: run one benchmark and print its Markdown."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from s3downloader.aio import timeout

from . import burst, facts, idle, latency, planning, start, throughput

BENCHMARKS = {
    module.__name__.rpartition(".")[2]: module
    for module in (throughput, idle, latency, burst, planning, start)
}
LIMIT = 1_800.0
"""Seconds after which a benchmark is given up."""


async def run(name: str, rounds: int | None, directory: Path) -> None:
    """Run a benchmark in `directory` and print what it measured."""
    benchmark = BENCHMARKS[name]
    print(facts.describe(directory), end="\n\n", flush=True)
    async with timeout(LIMIT):
        print(await benchmark.run(directory, rounds or benchmark.ROUNDS))


def main() -> None:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the downloader against servers on this machine.",
        epilog="\n".join(f"{name}: {module.__doc__}" for name, module in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, help="how often; the default depends on NAME")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where to work: on the disk that is to be measured, with 10 GiB free",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=arguments.directory) as directory:
        asyncio.run(run(arguments.name, arguments.rounds, Path(directory)))


if __name__ == "__main__":
    main()
