"""The engine s5cmd recovers after kill -9, a loss of power, and changes of the source."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from s3downloader.core.records import FileRecord, Options
from s3downloader.engines import disk as disk_module
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.staging import Staging
from sandbox.link import Link
from sandbox.servers import ObjectServer
from tests.support import eventually, is_running

from .support import Recorder, children, job, names, records, stream

MIB = 1 << 20


async def test_kill_9_loses_no_whole_file_and_leaves_nothing_running(
    linked: S5cmdEngine, link: Link, object_server: ObjectServer, tmp_path: Path
) -> None:
    sizes = {"a/small": 100_000, "b/small": 0, "large": 20 * MIB}
    for path, size in sizes.items():
        await object_server.make(f"engine-killed/{path}", size)
    files = records(sizes, "engine-killed/")
    link.freeze_after(2 * MIB)  # so that nothing else ends s5cmd
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.engines.killed_fetch", "s5cmd"),
        *(link.endpoint, str(tmp_path), msgspec.json.encode(files).decode()),
    )
    try:
        await eventually(lambda: link.is_frozen and all(is_here(tmp_path, f) for f in files[:2]))
        [s5cmd] = children(daemon.pid)
    finally:
        daemon.kill()
        await daemon.wait()
    await eventually(lambda: not is_running(s5cmd))

    sink = Recorder()
    await linked.recover(job(tmp_path), stream(files), sink)
    assert sink.numbers == [1, 2]
    assert names(tmp_path / "in-flight") == []
    assert (tmp_path / "files/a/small").stat().st_size == 100_000


def is_here(staging: Path, file: FileRecord) -> bool:
    """Return whether a file is complete, in its final place or not yet moved."""
    places = (staging / "files" / file.path, staging / "in-flight" / f"{file.number}.object")
    return any(place.exists() for place in places)


@pytest.fixture
def left(tmp_path: Path) -> Staging:
    """A folder with a complete file (1), an incomplete one (2), and one that was moved (3)."""
    staging = Staging(tmp_path)
    staging.make()
    (tmp_path / "in-flight/3.object").write_bytes(b"three")
    assert len(staging.move_arrived(PLAN[2:]).complete) == 1
    (tmp_path / "in-flight/1.object").write_bytes(b"one")
    (tmp_path / "in-flight/2.object123").write_bytes(b"tw")
    return staging


PLAN = records({"one": 3, "two": 3, "three": 5}, "p/")


async def test_what_is_whole_is_kept(engine: S5cmdEngine, left: Staging, tmp_path: Path) -> None:
    for _ in "twice":  # the first report may be lost in a kill
        sink = Recorder()
        await engine.recover(job(tmp_path), stream(PLAN), sink)
        assert names(tmp_path / "files") == ["one", "three"]
        assert names(tmp_path / "in-flight") == []
        assert sink.numbers == [1, 3]


async def test_what_another_version_left_on_its_way_is_removed(
    engine: S5cmdEngine, left: Staging, tmp_path: Path
) -> None:
    (tmp_path / "in-flight/2.parts").mkdir()
    (tmp_path / "in-flight/2.parts/0").write_bytes(b"t")
    await engine.recover(job(tmp_path), stream(PLAN), Recorder())
    assert names(tmp_path / "in-flight") == []


async def test_after_a_loss_of_power_nothing_is_trusted(
    engine: S5cmdEngine, left: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another boot\n")
    monkeypatch.setattr(disk_module, "_BOOT_ID", boot_id)
    sink = Recorder()
    await engine.recover(job(tmp_path), stream(PLAN), sink)
    assert sink.numbers == []
    assert names(tmp_path / "in-flight") == []


async def test_a_file_in_place_of_an_older_object_is_not_taken(
    engine: S5cmdEngine, left: Staging, tmp_path: Path
) -> None:
    replaced = msgspec.structs.replace(PLAN[2], validator="of a later upload of the same size")
    sink = Recorder()
    await engine.recover(job(tmp_path), stream([*PLAN[:2], replaced]), sink)
    assert sink.numbers == [1]


async def test_a_file_in_place_without_a_validator_is_not_taken(
    engine: S5cmdEngine, tmp_path: Path
) -> None:
    """Nothing shows that it is of the present object."""
    [unknown] = records({"one": 3}, "p/")
    unknown = msgspec.structs.replace(unknown, validator="")
    staging = Staging(tmp_path)
    staging.make()
    (tmp_path / "in-flight/1.object").write_bytes(b"one")
    assert staging.move_arrived([unknown]).complete
    sink = Recorder()
    await engine.recover(job(tmp_path), stream([unknown]), sink)
    assert sink.numbers == []


async def test_a_file_whose_object_is_another_by_now_is_not_kept(
    engine: S5cmdEngine, object_server: ObjectServer, left: Staging, tmp_path: Path
) -> None:
    """It does not end the download either: the next plan finds what has changed."""
    await object_server.put("p/one", b"two")
    sink = Recorder()
    await engine.recover(job(tmp_path, Options()), stream(PLAN), sink)
    assert sink.numbers == []
    assert names(tmp_path / "files") == []


async def test_a_file_of_the_wrong_size_is_not_taken(
    engine: S5cmdEngine, left: Staging, tmp_path: Path
) -> None:
    (tmp_path / "in-flight/1.object").write_bytes(b"o")
    (tmp_path / "files/three").write_bytes(b"th")
    sink = Recorder()
    await engine.recover(job(tmp_path), stream(PLAN), sink)
    assert sink.numbers == []
    assert names(tmp_path / "in-flight") == []


@pytest.mark.parametrize("journal", [None, b"", b'{"boot_id": 1}'])
async def test_a_folder_without_a_sound_journal_is_emptied(
    engine: S5cmdEngine, left: Staging, tmp_path: Path, journal: bytes | None
) -> None:
    (tmp_path / "in-flight.json").unlink()
    if journal is not None:
        (tmp_path / "in-flight.json").write_bytes(journal)
    sink = Recorder()
    await engine.recover(job(tmp_path), stream(PLAN), sink)
    assert sink.numbers == []
    assert names(tmp_path / "in-flight") == []


async def test_a_download_that_never_began_has_nothing_to_recover(
    engine: S5cmdEngine, tmp_path: Path
) -> None:
    await engine.recover(job(tmp_path / "none"), stream(PLAN), Recorder())
    assert not (tmp_path / "none").exists()


def test_holes_in_a_file_on_its_way_do_not_count(tmp_path: Path) -> None:
    staging = Staging(tmp_path)
    staging.make()
    with (tmp_path / "in-flight/7.object88").open(
        "wb"
    ) as file:  # the order in which s5cmd writes parts
        file.seek(100 * MIB)
        file.write(bytes(MIB))
    assert staging.measure() == {7: MIB}
