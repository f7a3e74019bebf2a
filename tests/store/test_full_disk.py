"""A full or read-only disk does not count as damage: the state stays as it is."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import s3downloader
from s3downloader.store import Change, Store

from ..support import PRIVATE_MOUNTS

PACKAGES = Path(s3downloader.__file__).parents[1]

OPEN = """
import asyncio, sys
from pathlib import Path
from s3downloader.core.errors import DownloaderError
from s3downloader.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    print("opened", store.damaged, len(await store.outgoing()))
    await store.close()

try:
    asyncio.run(main())
except DownloaderError as error:
    print(error.code.value, error)
"""
"""Opens the state as a starting daemon does, and prints what it found."""

SPOIL = {
    "full": 'dd if=/dev/zero of="$disk/filler" bs=4096 || true',
    "read-only": 'mount -o remount,ro "$disk"',
}
REPAIR = {"full": 'rm "$disk/filler"', "read-only": 'mount -o remount,rw "$disk"'}


async def leave_state(directory: Path, *, cleanly: bool) -> Path:
    """Write a state with two events, as after a stop or a kill; return its path."""
    live, left = directory / "live", directory / "left"
    for number in range(2):
        store = Store(live)
        await store.record(Change(events=[b"event %d" % number]))
        shutil.copytree(live, left, dirs_exist_ok=True)
        await store.close()
    return live if cleanly else left


async def opened_twice(directory: Path, state: Path, trouble: str) -> list[str]:
    """Open `state` on a broken disk, then on the repaired one.

    Returns the outputs, and what is left.
    """
    (directory / "disk").mkdir()
    script = f"""
        set -e; disk={directory}/disk
        mount -t tmpfs -o size=1m none "$disk"
        cp -r {state} "$disk/state"
        {SPOIL[trouble]}
        "$0" -c "$1" "$disk/state"
        {REPAIR[trouble]}
        "$0" -c "$1" "$disk/state"
        ls "$disk/state"
    """
    ended = await asyncio.to_thread(
        subprocess.run,
        [*PRIVATE_MOUNTS, "sh", "-c", script, sys.executable, OPEN],
        env={**os.environ, "PYTHONPATH": f"{PACKAGES}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not ended.returncode, ended.stderr
    return ended.stdout.splitlines()


@pytest.mark.parametrize(
    ("cleanly", "trouble", "says"),
    [
        (True, "full", "internal_error the state could not be written"),
        (True, "read-only", "destination_not_writable StateDir"),
        (False, "full", "opened None 2"),  # it would write what is already there
        (False, "read-only", "destination_not_writable StateDir"),
    ],
)
async def test_a_disk_that_does_not_serve_sets_nothing_aside(
    tmp_path: Path, cleanly: bool, trouble: str, says: str
) -> None:
    state = await leave_state(tmp_path, cleanly=cleanly)
    output = await opened_twice(tmp_path, state, trouble)
    assert output[0].startswith(says)
    assert output[1:] == ["opened None 2", "lock", "state.db"]


async def test_a_full_disk_leaves_a_damaged_state_for_later(tmp_path: Path) -> None:
    state = await leave_state(tmp_path, cleanly=True)
    with (state / "state.db").open("r+b") as file:
        file.seek(60)
        file.write(b"\0\0\0\x82")  # an impossible version
    output = await opened_twice(tmp_path, state, "full")
    assert output[0].startswith("internal_error the state could not be written: disk I/O error")
    assert output[1].startswith("opened ")
    assert output[1].endswith(".db 2")
    assert len(output[2:]) == 4


async def test_the_log_of_a_damaged_file_is_set_aside_with_it(tmp_path: Path) -> None:
    state = await leave_state(tmp_path, cleanly=False)
    with closing(sqlite3.connect(state / "state.db")) as reader:  # prevents a checkpoint of the log
        reader.execute("SELECT * FROM outbox").fetchall()
        (state / "state.db").write_bytes(b"not a database " * 1_000)
        store = Store(state)
    assert store.damaged
    assert store.damaged.read_bytes().startswith(b"not a database")
    assert b"event 1" in store.damaged.with_name(f"{store.damaged.name}-wal").read_bytes()
    assert [event.payload for event in await store.outgoing()] == [b"event 0", b"event 1"]
    await store.close()
