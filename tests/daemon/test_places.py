"""Downloads write only where they may, and do not disturb each other."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from s3downloader.core.records import State

from .harness import Harness, reaches


async def test_two_files_into_one_new_directory_both_arrive(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = threading.Barrier(2)
    sync = os.fsync

    def meet(descriptor: int) -> None:
        """Continue only when both downloads have seen that the directory does not exist."""
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(2)
            meeting.abort()
        sync(descriptor)

    harness.source.objects = {"m/tokenizer": 10, "m/weights": 20}
    harness.engine.hold("m/tokenizer", "m/weights")
    async with harness.running():
        for name in ("tokenizer", "weights"):
            assert (await harness.download(f"m/{name}", name, "new"))["success"]
        await harness.engine.stands_at("m/tokenizer", "m/weights")
        monkeypatch.setattr(os, "fsync", meet)
        harness.engine.release()
        await harness.completed("tokenizer", "weights")
    assert harness.files() == {"new/tokenizer", "new/weights"}


async def test_a_failed_download_keeps_the_target_it_began_to_publish(
    harness: Harness,
) -> None:
    harness.source.objects = {"v1/a": 10, "v1/deep/b": 10, "v2/a": 20}
    (harness.downloads / "m").mkdir(parents=True)
    obstacle = harness.downloads / "m" / "deep"
    async with harness.running():
        publishing = harness.hold("record", reaches(State.PUBLISHING))
        await harness.download("v1/", "one", "m")
        await publishing.reached()
        obstacle.write_text("in the way")
        publishing.open()
        await harness.becomes(State.FAILED, "one")
        assert harness.status_of("one")["error_code"] == "destination_not_writable"

        for place in ("m", "m/below", ""):
            refusal = await harness.download("v2/", "two", place)
            assert (refusal["error_code"], refusal["error_details"]) == (
                "destination_busy",
                {"download_id": "one"},
            )
        obstacle.unlink()
        await harness.ask("resume", download_id="one")
        await harness.completed("one")
        assert harness.files("m") == {"a", "deep/b"}
        assert (await harness.download("v2/", "two", "m"))["success"]
        await harness.completed("two")


async def test_a_download_is_not_resumed_into_what_another_writes(harness: Harness) -> None:
    harness.source.objects = {"v2/a": 10}
    harness.engine.hold("v2/a")
    async with harness.running():
        await harness.download("v1/", "one", "m")
        await harness.becomes(State.FAILED, "one")
        assert (await harness.download("v2/", "two", "m"))["success"]
        await harness.engine.stands_at("v2/a")
        refusal = await harness.ask("resume", download_id="one")
        assert refusal["error_code"] == "destination_busy"


async def test_a_parent_that_became_a_symlink_is_not_followed(
    harness: Harness, tmp_path: Path
) -> None:
    harness.source.objects = {"m/a": 10}
    harness.engine.hold("m/a")
    outside = tmp_path / "outside"
    outside.mkdir()
    async with harness.running():
        await harness.download("m/", "x", "team/model")
        await harness.engine.stands_at("m/a")
        (harness.downloads / "team").symlink_to(outside)
        harness.engine.release()
        await harness.becomes(State.FAILED, "x")
        assert harness.status_of("x")["error_code"] == "unsafe_key"
        assert list(outside.iterdir()) == []


def link_away(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


def give_away(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 65_534, 65_534)


@pytest.mark.parametrize(
    "spoil",
    [
        link_away,
        pytest.param(
            give_away,
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away"),
        ),
    ],
)
async def test_a_staging_folder_of_somebody_else_is_refused(
    harness: Harness, spoil: Callable[[Path], None]
) -> None:
    harness.source.objects = {"a": 10}
    harness.downloads.mkdir()
    spoil(harness.downloads / ".s3downloader")
    async with harness.running():
        refusal = await harness.download("a", "x")
        assert refusal["error_code"] == "destination_not_writable"
        assert ".s3downloader" in refusal["error"]
        assert await harness.listed() == {}


@pytest.mark.parametrize("directory", ["/proc/downloads", "{0}/file", "{0}/file/below"])
async def test_an_unusable_download_dir_refuses_only_downloads(
    harness: Harness, tmp_path: Path, directory: str
) -> None:
    harness.source.objects = {"a": 10}
    (tmp_path / "file").write_text("")
    harness.configuration["DownloadDir"] = directory.format(tmp_path)
    async with harness.running():
        refusal = await harness.ask("download", bucket="models", key="a")
        assert refusal["error_code"] == "destination_not_writable"
        assert (await harness.ask("status"))["success"]
