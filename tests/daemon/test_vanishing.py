"""Files of an unfinished download are deleted by others, and fetched again."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path

import pytest

from s3downloader.core.records import Download, FileRecord, State
from s3downloader.downloads.publishing.publish import publish_files
from s3downloader.engines.auto import AutoEngine
from s3downloader.engines.base import FetchJob, Sink
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.s5cmd.program import S5cmd
from s3downloader.sources.registry import sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from sandbox.link import Link
from sandbox.servers import ObjectServer

from ..support import ManualClock
from .harness import Harness, reaches

MiB = 1 << 20
OBJECTS = {"m/a": 10, "m/deep/b": 20}
STARTED_AND_COMPLETED = ["download_started", "download_completed"]


def staging(harness: Harness) -> Path:
    [folder] = (p for p in harness.downloads.rglob(".s3downloader/*") if p.name != "versions")
    return folder


def all_of_it(harness: Harness) -> None:
    """Delete a folder in one step, because files may be created in it meanwhile."""
    folder = staging(harness).parent
    shutil.rmtree(folder.rename(harness.directory / f"removed-{folder.stat().st_ino}"))


def one_file(harness: Harness) -> None:
    (staging(harness) / "files" / "a").unlink()


def the_destination(harness: Harness) -> None:
    all_of_it(harness)
    shutil.rmtree(harness.downloads / "m", ignore_errors=True)


def sizes(harness: Harness) -> dict[str, int]:
    root = harness.downloads / "m"
    return {f"m/{path}": (root / path).stat().st_size for path in harness.files("m")}


async def test_what_goes_while_it_is_planned_is_made_again(harness: Harness) -> None:
    harness.source.objects = OBJECTS
    async with harness.running():
        planning = harness.hold("outdated", lambda _: True)
        await harness.download("m/", "x", "m")
        await planning.reached()
        all_of_it(harness)
        planning.open()
        await harness.completed("x")
        assert sizes(harness) == OBJECTS


@pytest.mark.parametrize("exists", [False, True])
async def test_what_goes_while_it_is_fetched_is_fetched_again(
    harness: Harness, exists: bool
) -> None:
    harness.source.objects = OBJECTS
    harness.engine.hold("m/deep/b")
    if exists:
        (harness.downloads / "m").mkdir(parents=True)
    async with harness.running():
        await harness.download("m/", "x", "m")
        await harness.engine.stands_at("m/deep/b")
        the_destination(harness)
        harness.engine.release()
        await harness.completed("x")
        assert sizes(harness) == OBJECTS
        assert harness.events("x") == STARTED_AND_COMPLETED


@pytest.mark.parametrize("remove", [all_of_it, one_file, the_destination])
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("publish", ["merge", "replace"])
async def test_what_goes_before_it_is_published_is_fetched_again(
    harness: Harness, remove: Callable[[Harness], None], exists: bool, publish: str
) -> None:
    harness.source.objects = OBJECTS
    if exists:
        (harness.downloads / "m").mkdir(parents=True)
        (harness.downloads / "m" / "a").write_text("the version before")
    async with harness.running():
        publishing = harness.hold("record", reaches(State.PUBLISHING))
        await harness.download("m/", "x", "m", publish=publish, keep_versions=0)
        await publishing.reached()
        remove(harness)
        publishing.open()
        await harness.completed("x")
        assert sizes(harness) == OBJECTS
        assert harness.events("x") == STARTED_AND_COMPLETED
        await harness.until(lambda: harness.notices)
        assert [notice["level"] for notice in harness.notices] == ["warning"]


@pytest.mark.parametrize("remove", [all_of_it, one_file, the_destination])
async def test_what_goes_before_it_is_verified_is_fetched_again(
    harness: Harness, remove: Callable[[Harness], None]
) -> None:
    harness.source.objects = OBJECTS
    async with harness.running():
        verifying = harness.hold("record", reaches(State.VERIFYING))
        await harness.download("m/", "x", "m")
        await verifying.reached()
        remove(harness)
        verifying.open()
        await harness.completed("x")
        assert sizes(harness) == OBJECTS
        assert harness.events("x") == STARTED_AND_COMPLETED
        [notice] = await harness.until(lambda: harness.notices)
        assert notice["level"] == "warning"
        assert "disappeared before they were published" in notice["message"]


async def test_what_goes_while_the_daemon_is_down_is_fetched_again(harness: Harness) -> None:
    harness.source.objects = OBJECTS
    harness.engine.hold("m/deep/b")
    async with harness.running():
        await harness.download("m/", "x", "m")
        await harness.engine.stands_at("m/deep/b")
        await harness.ask("status")
    all_of_it(harness)
    harness.engine.fetched.clear()
    async with harness.running():
        await harness.engine.stands_at("m/deep/b")
        assert harness.engine.fetched == ["m/a"]
        harness.engine.release()
        await harness.completed("x")
        assert sizes(harness) == OBJECTS


async def test_no_file_is_missing_of_what_a_restart_publishes(
    harness: Harness, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def lack(*_: object) -> bool:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    harness.source.objects = OBJECTS
    with monkeypatch.context() as patch:
        patch.setattr("s3downloader.downloads.runner.publish_directory", lack)
        async with harness.running():
            await harness.download("m/", "x", "m")
            await harness.until(lambda: tries)
    one_file(harness)
    async with harness.running():
        await harness.completed("x")
        assert sizes(harness) == OBJECTS


@pytest.mark.parametrize("checked", [False, True])
async def test_an_older_file_of_equal_size_is_not_taken_for_a_lost_one(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """Neither before the first file is published, nor when it is its turn."""

    def lose(download: Download, files: list[FileRecord]) -> tuple[set[Path], list[FileRecord]]:
        if not harness.notices:
            one_file(harness)
        return publish_files(download, files)

    harness.source.objects = OBJECTS
    place = harness.downloads / "m" / "a"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"0123456789")
    async with harness.running():
        publishing = harness.hold("record", reaches(State.PUBLISHING))
        await harness.download("m/", "x", "m")
        await publishing.reached()
        if checked:
            monkeypatch.setattr("s3downloader.downloads.runner.publish_files", lose)
        else:
            one_file(harness)
        publishing.open()
        await harness.completed("x")
        assert harness.engine.fetched == [*OBJECTS, "m/a"]
        assert place.read_bytes() == bytes(10)


async def test_what_was_moved_before_a_restart_is_not_fetched_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[FileRecord] = []

    def move_one(download: Download, files: list[FileRecord]) -> None:
        if not moved:
            moved.append(files[0])
            publish_files(download, moved)
        raise OSError(errno.EMFILE, "Too many open files")

    harness.source.objects = OBJECTS
    (harness.downloads / "m").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr("s3downloader.downloads.runner.publish_files", move_one)
        async with harness.running():
            await harness.download("m/", "x", "m")
            await harness.until(lambda: moved and harness.notices)
    assert not (staging(harness) / "files" / "a").exists()
    async with harness.running():
        await harness.completed("x")
        assert sizes(harness) == OBJECTS
        assert harness.engine.fetched == [*OBJECTS]


@pytest.mark.parametrize("is_seen", [True, False], ids=["by the engine", "after it"])
async def test_what_goes_again_and_again_ends_with_what_to_look_for(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, is_seen: bool
) -> None:
    fetch = harness.engine.fetch

    async def fetch_in_vain(job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        await fetch(job, files, sink)
        shutil.rmtree(job.staging)
        if is_seen:
            job.staging.stat()

    harness.source.objects = OBJECTS
    async with harness.running():
        with monkeypatch.context() as patch:
            patch.setattr(harness.engine, "fetch", fetch_in_vain)
            await harness.download("m/", "x", "m")
            error = await harness.wait_for_event("download_error", "x")
        assert error["error_code"] == "destination_not_writable"
        assert "a job that cleans up" in error["error"]
        assert harness.engine.fetched == [*OBJECTS] * 4
        await harness.ask("resume", download_id="x")
        await harness.completed("x")
        assert sizes(harness) == OBJECTS


@pytest.fixture
def real(
    harness: Harness, link: Link, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    """A device whose source and engine are the real ones."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    client = S3Client(link.endpoint, Credentials(os.environ, harness.clock))
    sources = sources_over(ObjectMetadata(client), harness.clock)
    tool = S5cmd(endpoint_url=link.endpoint)
    ranged = RangedEngine(client=client, sources=sources, clock=harness.clock)
    engine = AutoEngine(s5cmd=S5cmdEngine(tool, harness.clock, sources), ranged=ranged)
    harness.real = (sources, engine)
    yield harness
    client.transport.close_idle()


@pytest.mark.parametrize(
    ("engine", "count", "size"),
    [("ranged", 1, 24 * MiB), ("ranged", 96, MiB // 4), ("s5cmd", 96, MiB // 4)],
)
async def test_the_staging_folder_goes_in_the_midst_of_a_fetch(
    real: Harness, link: Link, object_server: ObjectServer, engine: str, count: int, size: int
) -> None:
    prefix = f"vanishing-{engine}-{count}/"
    digests = {f"{n}": await object_server.make(f"{prefix}{n}", size) for n in range(count)}
    link.rate = 10 * MiB
    async with real.running():
        await real.download(prefix, "x", "m", engine=engine)
        await link.carried(link.bytes_down + 8 * MiB)
        all_of_it(real)
        await real.until(lambda: real.notices)
        link.rate = None
        await real.completed("x")
    assert real.files("m") == set(digests)
    for name, digest in digests.items():
        content = (real.downloads / "m" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    assert link.bytes_down < 2.2 * count * size
    assert real.events("x") == STARTED_AND_COMPLETED
