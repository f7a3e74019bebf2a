"""Somebody removes what a download has gathered: what is gone is fetched again."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path

import pytest

from s3downloader.core.records import FileRecord, State
from s3downloader.engines.auto import AutoEngine
from s3downloader.engines.base import FetchJob, Sink
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.s5cmd.program import S5cmd
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectHeads
from s3downloader.sources.s3.source import S3Source
from sandbox.link import Link
from sandbox.servers import ObjectServer

from ..support import ManualClock
from .rig import Rig, reaches

MiB = 1 << 20
OBJECTS = {"m/a": 10, "m/deep/b": 20}
STARTED_AND_COMPLETED = ["download_started", "download_completed"]


def staging(rig: Rig) -> Path:
    [folder] = (p for p in rig.downloads.rglob(".s3downloader/*") if p.name != "versions")
    return folder


def all_of_it(rig: Rig) -> None:
    """Remove it in one step, while files may be made in it."""
    folder = staging(rig).parent
    shutil.rmtree(folder.rename(rig.directory / f"removed-{folder.stat().st_ino}"))


def one_file(rig: Rig) -> None:
    (staging(rig) / "files" / "a").unlink()


def the_destination(rig: Rig) -> None:
    all_of_it(rig)
    shutil.rmtree(rig.downloads / "m", ignore_errors=True)


def sizes(rig: Rig) -> dict[str, int]:
    root = rig.downloads / "m"
    return {f"m/{path}": (root / path).stat().st_size for path in rig.files("m")}


async def test_what_goes_while_it_is_planned_is_made_again(rig: Rig) -> None:
    rig.source.objects = OBJECTS
    async with rig.running():
        planning = rig.hold("outdated", lambda _: True)
        await rig.download("m/", "x", "m")
        await planning.reached()
        all_of_it(rig)
        planning.open()
        await rig.completed("x")
        assert sizes(rig) == OBJECTS


@pytest.mark.parametrize("exists", [False, True])
async def test_what_goes_while_it_is_fetched_is_fetched_again(rig: Rig, exists: bool) -> None:
    rig.source.objects = OBJECTS
    rig.engine.hold("m/deep/b")
    if exists:
        (rig.downloads / "m").mkdir(parents=True)
    async with rig.running():
        await rig.download("m/", "x", "m")
        await rig.engine.stands_at("m/deep/b")
        the_destination(rig)
        rig.engine.release()
        await rig.completed("x")
        assert sizes(rig) == OBJECTS
        assert rig.events("x") == STARTED_AND_COMPLETED


@pytest.mark.parametrize("remove", [all_of_it, one_file, the_destination])
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("publish", ["merge", "replace"])
async def test_what_goes_before_it_is_published_is_fetched_again(
    rig: Rig, remove: Callable[[Rig], None], exists: bool, publish: str
) -> None:
    rig.source.objects = OBJECTS
    if exists:
        (rig.downloads / "m").mkdir(parents=True)
        (rig.downloads / "m" / "a").write_text("the version before")
    async with rig.running():
        publishing = rig.hold("record", reaches(State.PUBLISHING))
        await rig.download("m/", "x", "m", publish=publish, keep_versions=0)
        await publishing.reached()
        remove(rig)
        publishing.open()
        await rig.completed("x")
        assert sizes(rig) == OBJECTS
        assert rig.events("x") == STARTED_AND_COMPLETED
        await rig.until(lambda: rig.notices)
        assert [notice["level"] for notice in rig.notices] == ["warning"]


async def test_what_goes_while_the_daemon_is_down_is_fetched_again(rig: Rig) -> None:
    rig.source.objects = OBJECTS
    rig.engine.hold("m/deep/b")
    async with rig.running():
        await rig.download("m/", "x", "m")
        await rig.engine.stands_at("m/deep/b")
        await rig.ask("status")
    all_of_it(rig)
    rig.engine.fetched.clear()
    async with rig.running():
        await rig.engine.stands_at("m/deep/b")
        assert rig.engine.fetched == ["m/a"]
        rig.engine.release()
        await rig.completed("x")
        assert sizes(rig) == OBJECTS


async def test_no_file_is_missing_of_what_a_restart_publishes(
    rig: Rig, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def lack(*_: object) -> bool:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    rig.source.objects = OBJECTS
    with monkeypatch.context() as patch:
        patch.setattr("s3downloader.downloads.runner.publish_whole", lack)
        async with rig.running():
            await rig.download("m/", "x", "m")
            await rig.until(lambda: tries)
    one_file(rig)
    async with rig.running():
        await rig.completed("x")
        assert sizes(rig) == OBJECTS


async def test_what_goes_again_and_again_ends_with_what_to_look_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = rig.engine.fetch

    async def fetch_in_vain(job: FetchJob, files: AsyncIterable[FileRecord], sink: Sink) -> None:
        await fetch(job, files, sink)
        shutil.rmtree(job.staging)
        job.staging.stat()

    rig.source.objects = OBJECTS
    async with rig.running():
        with monkeypatch.context() as patch:
            patch.setattr(rig.engine, "fetch", fetch_in_vain)
            await rig.download("m/", "x", "m")
            error = await rig.hears("download_error", "x")
        assert error["error_code"] == "destination_not_writable"
        assert "a job that cleans up" in error["error"]
        assert rig.engine.fetched == [*OBJECTS] * 4
        await rig.ask("resume", download_id="x")
        await rig.completed("x")
        assert sizes(rig) == OBJECTS


@pytest.fixture
def real(
    rig: Rig, link: Link, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    """A device whose source and engine are the real ones."""
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    credentials = Credentials(os.environ, rig.clock)
    heads = ObjectHeads(link.endpoint, credentials)
    tool = S5cmd(endpoint_url=link.endpoint)
    ranged = RangedEngine(
        endpoint_url=link.endpoint, credentials=credentials, heads=heads, clock=rig.clock
    )
    engine = AutoEngine(s5cmd=S5cmdEngine(tool, rig.clock, heads), ranged=ranged)
    rig.real = (S3Source(heads, rig.clock), engine)
    yield rig
    heads.close()


@pytest.mark.parametrize(
    ("engine", "count", "size"),
    [("ranged", 1, 24 * MiB), ("ranged", 96, MiB // 4), ("s5cmd", 96, MiB // 4)],
)
async def test_the_staging_folder_goes_in_the_midst_of_a_fetch(
    real: Rig, link: Link, object_server: ObjectServer, engine: str, count: int, size: int
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
