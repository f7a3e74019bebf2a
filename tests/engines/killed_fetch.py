"""A process for tests to kill, which fetches the files of a plan.

python -m tests.engines.killed_fetch ENGINE ENDPOINT STAGING RECORDS

RECORDS is a JSON list of file records.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from s3downloader.core.clock import SystemClock
from s3downloader.core.records import FileRecord, Options

from .support import Files, Recorder, by_ranges, by_s5cmd, fetch_with, job

if __name__ == "__main__":
    name, endpoint, staging, plan = sys.argv[1:]
    clock = SystemClock()
    engine = by_ranges(endpoint, clock) if name == "ranged" else by_s5cmd(endpoint, clock)
    files = msgspec.json.decode(plan, type=list[FileRecord])
    # s5cmd fetches one file after the other, so that the first ones arrive on any link
    options = Options() if name == "ranged" else Options(numworkers=1)
    asyncio.run(fetch_with(engine, job(Path(staging), options), Files(files), Recorder()))
