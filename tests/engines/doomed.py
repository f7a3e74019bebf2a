"""A daemon for the tests to kill: it fetches the files of the plan that it is given as JSON.

python -m tests.engines.doomed ENDPOINT STAGING RECORDS
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from s3downloader.clock import SystemClock
from s3downloader.records import FileRecord

from .support import Recorder, by_s5cmd, job, stream

if __name__ == "__main__":
    endpoint, staging, plan = sys.argv[1:]
    engine = by_s5cmd(endpoint, SystemClock())
    files = msgspec.json.decode(plan, type=list[FileRecord])
    asyncio.run(engine.fetch(job(Path(staging)), stream(files), Recorder()))
