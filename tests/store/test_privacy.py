"""Only its owner can read the state, whatever the umask, and whoever made the folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from s3downloader.store import Change, Store

from .test_store import a_download


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(directory: Path) -> set[int]:
    return {mode(path) for path in directory.iterdir()}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
async def test_a_new_state_is_its_owners(tmp_path: Path, mask: int) -> None:
    state = tmp_path / "above" / "state"
    with umask(mask):
        store = Store(state)
        await store.record(Change(downloads=[a_download()]))
        assert {path.name for path in state.iterdir()} == {
            "lock",
            "state.db",
            "state.db-shm",
            "state.db-wal",
        }
        assert modes(state) == {0o600}
        await store.close()
    assert (mode(state), mode(state.parent)) == (0o700, 0o700)


@pytest.mark.parametrize("mask", [0o000, 0o777])
async def test_a_damaged_state_is_its_owners(tmp_path: Path, mask: int) -> None:
    await Store(tmp_path / "state").close()
    path = tmp_path / "state" / "state.db"
    path.write_bytes(b"nonsense" * 1_000)
    path.chmod(0o644)
    with umask(mask):
        store = Store(tmp_path / "state")
        assert store.damaged
        assert len(list(path.parent.iterdir())) > 4
        assert modes(path.parent) == {0o600}
        await store.close()


async def test_a_state_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await Store(state).close()
    (state / "state.damaged-1.db").write_bytes(b"as an earlier version left it")
    for path in state.iterdir():
        path.chmod(0o666)
    state.chmod(0o777)
    await Store(state).close()
    assert (mode(state), modes(state)) == (0o700, {0o600})


async def test_a_directory_that_holds_other_things_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tmp_path.chmod(0o755)
    await Store(tmp_path).close()
    assert mode(tmp_path) == 0o755
    assert (mode(tmp_path / "state.db"), mode(tmp_path / "lock")) == (0o600, 0o600)
