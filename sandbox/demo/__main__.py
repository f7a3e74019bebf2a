"""Runs the demo: `python -m sandbox.demo`. The exit status is 0 if every step succeeded."""

from __future__ import annotations

import argparse
import signal
import sys


def main() -> int:
    """Parse the arguments and run the demo; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # so that Ctrl-C also ends the slow imports
    parser = argparse.ArgumentParser(
        prog="make run",
        description="Shows how the component downloads, pauses, resumes, registers and cancels"
        " models. All servers run on this machine.",
    )
    parser.add_argument("--size", type=int, default=288, help=argparse.SUPPRESS)  # MB
    parser.add_argument("--rate", type=int, default=24, help=argparse.SUPPRESS)  # MB/s
    parser.add_argument("--reading-time", type=float, default=2.5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        from .program import run
    except ModuleNotFoundError as error:
        print(f"The demo needs the package {error.name}; `make run` installs it.", file=sys.stderr)
        return 1
    return run(
        size=arguments.size * 1_000_000,
        rate=arguments.rate * 1_000_000,
        reading_time=arguments.reading_time,
    )


if __name__ == "__main__":
    sys.exit(main())
