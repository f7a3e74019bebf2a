"""A completed download has names that survive a loss of power."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.records import State
from s3downloader.downloads.publishing import replace
from s3downloader.store import Change

from .harness import Harness


class Journal:
    """Records, in order, the changes and syncs of directories and the states of the download.

    Directories are named by their inodes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, int | str]] = []
        self.records_syncs = True
        self._patch = monkeypatch
        for owner, name in [
            (Path, "rename"),
            (Path, "replace"),
            (Path, "mkdir"),
            (replace, "exchange"),
            (replace, "rename_new"),
        ]:
            self._observe(owner, name)
        sync = os.fsync

        def observed(descriptor: int) -> None:
            sync(descriptor)
            if self.records_syncs:
                self.steps.append(("synced", os.fstat(descriptor).st_ino))

        monkeypatch.setattr(os, "fsync", observed)

    def _observe(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def observed(path: Path, *others: Any, **named: Any) -> Any:
            result = real(path, *others, **named)
            targets = [o for o in others if isinstance(o, Path)] or [path]
            if name == "exchange":
                targets.append(path)
            self.steps += [("changed", target.parent.stat().st_ino) for target in targets]
            return result

        self._patch.setattr(owner, name, observed)

    def note(self, change: Change) -> bool:
        """Note a record of the download, and hold no caller."""
        self.steps += [("recorded", download.state.value) for download in change.downloads]
        return False

    def unsynced(
        self, folders: dict[int, Path], since: State = State.VERIFYING, end: State = State.COMPLETED
    ) -> list[Path]:
        """Return the `folders` that are not synced between their last change and the `end`.

        Files are made before `verifying`, which therefore counts as a change of all folders.
        """
        steps = self.steps[: self.steps.index(("recorded", end.value))]
        changes = [("recorded", since.value)]

        def last_change(inode: int) -> int:
            changing = [*changes, ("changed", inode)]
            return max(at for at, step in enumerate(steps) if step in changing)

        return [p for i, p in folders.items() if ("synced", i) not in steps[last_change(i) :]]


def folders_of(harness: Harness) -> dict[int, Path]:
    """Return the directories of the published files, and those above them, by inode."""
    below = [harness.downloads, *(p for p in harness.downloads.rglob("*") if p.is_dir())]
    return {path.stat().st_ino: path for path in [harness.downloads.parent, *below]}


def nothing(place: Path) -> None:
    return


def another_version(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "old").write_text("old")


@pytest.mark.parametrize("publish", ["merge", "replace"])
@pytest.mark.parametrize("before", [nothing, another_version])
@pytest.mark.parametrize("key", ["m/", "m/a"])
async def test_every_directory_is_synced_before_it_is_told(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    publish: str,
    before: Callable[[Path], None],
    key: str,
) -> None:
    harness.source.objects = {"m/a": 10, "m/deep/er/b": 20}
    place = harness.downloads / "team" / "model"
    before(place)
    kept = (
        {place.stat().st_ino} if place.exists() and (publish, key) == ("replace", "m/") else set()
    )
    journal = Journal(monkeypatch)
    harness.hold("record", journal.note)
    async with harness.running():
        await harness.download(key, "x", "team/model", publish=publish)
        await harness.completed("x")
    folders = {inode: path for inode, path in folders_of(harness).items() if inode not in kept}
    assert journal.unsynced(folders) == []


async def test_where_files_gather_is_synced_before_they_come(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.source.objects = {"m/a": 10}
    harness.engine.hold("m/a")
    journal = Journal(monkeypatch)
    harness.hold("record", journal.note)
    async with harness.running():
        await harness.download("m/", "x", "team/model")
        await harness.engine.stands_at("m/a")
        above = {
            p.stat().st_ino: p for p in (harness.downloads, harness.downloads / ".s3downloader")
        }
        assert journal.unsynced(above, since=State.QUEUED, end=State.DOWNLOADING) == []


async def test_names_of_an_attempt_that_ended_early_are_synced_too(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(place: Path) -> None:
        raise OSError(errno.EIO, "the end")

    harness.source.objects = {"m/a": 10, "m/deep/b": 20}
    journal = Journal(monkeypatch)
    harness.hold("record", journal.note)
    async with harness.running():
        with monkeypatch.context() as patch:
            patch.setattr(journal, "records_syncs", False)
            patch.setattr("s3downloader.downloads.publishing.publish.sync_above", end)
            await harness.download("m/", "x", "team/model")
            await harness.wait_for_event("download_error", "x")
        assert harness.files("team/model") == {"a", "deep/b"}
        await harness.ask("resume", download_id="x")
        await harness.completed("x")
    assert journal.unsynced(folders_of(harness)) == []


async def test_a_small_download_waits_for_six_syncs_of_the_state(harness: Harness) -> None:
    """Those of its arrival, response, start, file, publishing and end."""
    harness.configuration["StatusMinInterval"] = 3_600
    harness.source.objects = {"a": 10}
    async with harness.running():
        await harness.ask("status")
        harness.disk.commits.clear()
        await harness.download("a", "x")
        await harness.completed("x")
        await harness.ask("status")
    synced = [commit for commit in harness.disk.commits if commit.is_synced]
    assert len(synced) == 6 + 2  # the arrival of the second status, and its response
    assert sum(commit.tells for commit in synced) == 4
    assert not any(commit.tells for commit in harness.disk.commits if not commit.is_synced)
