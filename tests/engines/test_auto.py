"""The engine `auto` chooses an engine."""

from __future__ import annotations

from pathlib import Path

from s3downloader.core.clock import SystemClock
from s3downloader.core.records import Options
from s3downloader.engines.auto import AutoEngine
from sandbox.servers import ObjectServer

from .support import Files, Plan, Recorder, by_ranges, by_s5cmd, fetch_with, job


async def test_where_all_is_there_already_nothing_is_fetched(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    """This happens if the process ends after the last file, and before the source is checked."""
    endpoint = object_server.endpoint
    engine = AutoEngine(s5cmd=by_s5cmd(endpoint, SystemClock()), ranged=by_ranges(endpoint))
    plan = Plan(object_server, "auto/there/")
    await plan.put("config.json", b"{}")
    sink = Recorder()
    await fetch_with(engine, job(tmp_path, Options()), Files(plan.files), sink)
    plan.check(tmp_path, sink)
    await fetch_with(engine, job(tmp_path, Options()), Files([]), sink)
    plan.check(tmp_path, sink)
