"""Disks that are full or read-only, mounted in a namespace that only s5cmd sees."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.engines.s5cmd.program import packaged_binary
from sandbox.servers import ObjectServer
from tests.support import PRIVATE_MOUNTS

from .support import Recorder, by_s5cmd, fetch_with, job, names, records, stream


@pytest.mark.parametrize(
    ("mount", "code"),
    [
        ("mount -t tmpfs -o size=64k none '{}'", ErrorCode.DISK_FULL),
        (
            "mount --bind '{0}' '{0}' && mount -o remount,bind,ro '{0}'",
            ErrorCode.DESTINATION_NOT_WRITABLE,
        ),
    ],
)
async def test_a_failing_disk_ends_everything_at_once(
    object_server: ObjectServer, tmp_path: Path, mount: str, code: ErrorCode
) -> None:
    sizes = {str(n): 200_000 for n in range(20)}
    for path, size in sizes.items():
        await object_server.make(f"disk/{path}", size)
    staging = tmp_path / "staging"
    wrapper = tmp_path / "s5cmd"
    mounted = mount.format(staging / "in-flight")
    wrapper.write_text(
        "#!/bin/sh\n"
        f"exec {shlex.join(PRIVATE_MOUNTS)} sh -c '\n"
        f'{mounted.replace(chr(39), chr(34))} && exec "$0" "$@"\' {packaged_binary()} "$@"\n'
    )
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    sink = Recorder()
    with pytest.raises(DownloaderError) as caught:
        await fetch_with(
            by_s5cmd(object_server.endpoint, SystemClock(), wrapper),
            job(staging),
            stream(records(sizes, "disk/")),
            sink,
        )
    assert caught.value.code is code
    assert sink.files == []
    assert names(staging / "in-flight") == []
