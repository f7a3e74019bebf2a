"""The error with which a fetch ends if an object's own error is followed by a general one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from s3downloader.core.clock import Clock, SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.records import FileRecord
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from sandbox.servers import ObjectServer

from .support import Files, Plan, Recorder, by_ranges, by_s5cmd, fetch_with, job


class FullState(Recorder):
    """A sink that cannot record finished files."""

    async def finished(self, files: list[FileRecord]) -> None:
        raise DownloaderError(ErrorCode.DISK_FULL, "StateDir has no space left")


@pytest.mark.parametrize("make", [by_ranges, by_s5cmd])
@pytest.mark.parametrize(
    ("sink", "code"),
    [(Recorder, ErrorCode.OBJECT_NOT_FOUND), (FullState, ErrorCode.DISK_FULL)],
    ids=["object", "full-disk-after-object"],
)
async def test_the_fault_that_ends_a_fetch_is_raised(
    object_server: ObjectServer,
    tmp_path: Path,
    make: Callable[[str, Clock], RangedEngine | S5cmdEngine],
    sink: type[Recorder],
    code: ErrorCode,
) -> None:
    plan = Plan(object_server, "faults/")
    gone = msgspec.structs.replace(await plan.put("gone", b"gone"), name="faults/none")
    files = Files([gone, await plan.put("here", b"here")])
    engine = make(object_server.endpoint, SystemClock())
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(engine, job(tmp_path), files, sink())
    assert caught.value.code is code
