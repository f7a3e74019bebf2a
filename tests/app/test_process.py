"""The daemon's process: how it ends, and how it starts over in the same process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from s3downloader.app.start_limit import MAX_STARTS

PROGRAM = """
import asyncio, os, sys
from s3downloader.app import process
from s3downloader.core.errors import DownloaderError, ErrorCode

process._PAUSE = float(sys.argv[2])

async def serve(what, may_end):
    print("begun", os.getpid(), *sys.argv[1:], flush=True)
    if what == "wait":
        await asyncio.sleep(60)
    if what == "bug":
        raise RuntimeError("a bug")
    raise DownloaderError(ErrorCode[what], "no luck")

by_nucleus = len(sys.argv) == 3
process.run_until_stopped(lambda may_end: serve(sys.argv[1], may_end), by_nucleus=by_nucleus)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", PROGRAM, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str, times: int = 1) -> list[str]:
    """Return all lines up to that in which `text` has occurred `times` times."""
    assert process.stdout is not None
    lines: list[str] = []
    while sum(text in line for line in lines) < times:
        line = process.stdout.readline()
        assert line, f"it ended: {lines}"
        lines.append(line)
    return lines


def spend_starts(folder: Path) -> None:
    """Record so many recent starts that only one more is allowed."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    record = {"boot_id": boot_id, "starts": [now - 10 * n for n in range(1, MAX_STARTS)]}
    (folder / "starts.json").write_bytes(msgspec.json.encode(record))


@pytest.mark.parametrize(
    ("what", "status"),
    [("NETWORK_UNREACHABLE", 1), ("bug", 1), ("INVALID_STATE", 2), ("INVALID_FIELD", 2)],
)
def test_it_exits_at_once_while_the_nucleus_would_start_it(
    tmp_path: Path, what: str, status: int
) -> None:
    with start(tmp_path, what, "60") as process:
        assert process.wait(20) == status


@pytest.mark.parametrize("what", ["NETWORK_UNREACHABLE", "bug", "INVALID_STATE"])
def test_else_it_begins_anew_in_the_same_process(tmp_path: Path, what: str) -> None:
    spend_starts(tmp_path)
    with start(tmp_path, what, "0.01") as process:
        lines = read_until(process, "begun", times=4)
        begun = [line.split() for line in lines if "begun" in line]
        assert begun == [["begun", str(process.pid), what, "0.01"]] * 4
        descriptors = Path(f"/proc/{process.pid}/fd")
        assert len(list(descriptors.iterdir())) < 12
        process.kill()


def test_a_wrong_parameter_ends_it_however_often(tmp_path: Path) -> None:
    spend_starts(tmp_path)
    with start(tmp_path, "INVALID_FIELD", "60") as process:
        assert process.wait(20) == 2


def test_who_is_not_started_by_a_nucleus_just_ends(tmp_path: Path) -> None:
    spend_starts(tmp_path)
    with start(tmp_path, "bug", "60", "by hand") as process:
        assert process.wait(20) == 1


@pytest.mark.parametrize(("what", "says"), [("wait", "begun"), ("bug", "starts over")])
def test_sigterm_ends_it_with_status_0_also_while_it_pauses(
    tmp_path: Path, what: str, says: str
) -> None:
    spend_starts(tmp_path)
    with start(tmp_path, what, "60") as process:
        read_until(process, says)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
