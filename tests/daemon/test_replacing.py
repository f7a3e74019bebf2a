"""`publish: replace`, the versions that it keeps, and the way back to them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.records import State
from s3downloader.downloads.publishing import replace
from s3downloader.store import Change

from ..support import ManualClock
from .rig import Message, Rig, reaches

V1 = {"v1/config": 10, "v1/weights": 100, "v1/old": 5}
V2 = {"v2/config": 10, "v2/weights": 200, "v2/new/a": 7}
TREES = {
    "1": {"config": 10, "weights": 100, "old": 5},
    "2": {"config": 10, "weights": 200, "new/a": 7},
    "3": {"config": 30, "weights": 300},
}


def publishes(rig: Rig) -> None:
    rig.source.objects = {
        f"v{version}/{path}": size for version, tree in TREES.items() for path, size in tree.items()
    }


def tree(place: Path) -> dict[str, int]:
    """The files below a directory and their sizes."""
    files = (path for path in place.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(place)): path.stat().st_size for path in files}
    return {path: size for path, size in sizes.items() if not path.startswith(".s3downloader")}


def kept(rig: Rig) -> list[dict[str, int]]:
    """The versions that are kept of what lies below DownloadDir."""
    found = []
    for slot in (rig.downloads / ".s3downloader" / "versions").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # it is being removed
            found.append(tree(slot))
    return found


async def order(rig: Rig, version: str, **fields: Any) -> str:
    """Send the download of a version into the place of the model."""
    meta = {"model_id": "m", "model_version": version}
    fields = {"publish": "replace", "model_meta": meta, "download_id": f"d{version}", **fields}
    response = await rig.download(f"v{version}/", below="m", **fields)
    assert response["success"], response
    return str(response["download_id"])


async def update(rig: Rig, version: str, **fields: Any) -> None:
    await rig.completed(await order(rig, version, **fields))


async def roll_back(rig: Rig) -> Message:
    return await rig.ask("model_rollback", model_id="m")


async def check_version(rig: Rig, version: str) -> None:
    """See that files and registry are those of a version."""
    assert tree(rig.downloads / "m") == TREES[version]
    model = (await rig.ask("model_get", model_id="m"))["model"]
    assert (model["model_version"], model["local_path"]) == (version, str(rig.downloads / "m"))


async def test_the_version_before_comes_back_with_its_entry_and_goes_again(rig: Rig) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        await update(rig, "2")
        await check_version(rig, "2")
        assert kept(rig) == [TREES["1"]]
        for version in ("1", "2", "1"):
            response = await roll_back(rig)
            assert response["model"]["model_version"] == version
            await check_version(rig, version)
    async with rig.running():
        assert (await roll_back(rig))["model"]["model_version"] == "2"
        await check_version(rig, "2")


async def test_a_single_object_is_replaced_and_comes_back(rig: Rig) -> None:
    rig.source.objects = {"a/model.bin": 10, "b/model.bin": 20, "c/model.bin": 20}
    place = rig.downloads / "m" / "model.bin"
    async with rig.running():
        for name in "abc":
            await rig.download(
                f"{name}/model.bin",
                name,
                "m",
                publish="replace",
                keep_versions=2,
                model_meta={"model_id": "m", "model_version": name},
            )
            await rig.completed(name)
        assert place.stat().st_size == 20
        assert rig.engine.fetched == ["a/model.bin", "b/model.bin"]
        for version, size in [("b", 20), ("c", 20)]:
            assert (await roll_back(rig))["model"]["model_version"] == version
            assert place.stat().st_size == size


@pytest.mark.parametrize("keep", [0, 1, 2])
async def test_so_many_versions_are_kept_as_were_asked_for(rig: Rig, keep: int) -> None:
    publishes(rig)
    async with rig.running():
        for version in "123":
            await update(rig, version, keep_versions=keep)
        expected = [TREES[version] for version in "21"[:keep]]
        await rig.until(lambda: len(kept(rig)) == keep)
        assert all(version in kept(rig) for version in expected)
        if keep == 0:
            assert (await roll_back(rig))["error_code"] == "version_not_found"
            await rig.until(lambda: not (rig.downloads / ".s3downloader").exists())


async def test_a_deleted_model_takes_its_earlier_versions_along(rig: Rig) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        await update(rig, "2")
        await rig.ask("model_add", model_meta={"model_id": "n", "local_path": f"{rig.downloads}/m"})
        await rig.ask("model_delete", model_id="m")
        assert kept(rig) == [TREES["1"]]
        await rig.ask("model_delete", model_id="n")
        await rig.until(lambda: not (rig.downloads / ".s3downloader").exists())
        assert tree(rig.downloads / "m") == TREES["2"]


async def test_a_rollback_is_refused_where_there_is_nothing_or_a_download_writes(rig: Rig) -> None:
    publishes(rig)
    async with rig.running():
        assert (await roll_back(rig))["error_code"] == "model_not_found"
        await update(rig, "1")
        assert (await roll_back(rig))["error_code"] == "version_not_found"
        await update(rig, "2")
        rig.engine.hold("v3/weights")
        await order(rig, "3", publish="merge")
        await rig.engine.stands_at("v3/weights")
        assert (await roll_back(rig))["error_code"] == "destination_busy"
        await check_version(rig, "2")
        await rig.ask("cancel", download_id="d3")
        assert (await roll_back(rig))["success"]


async def test_a_rollback_happens_once_for_each_command_id(rig: Rig) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        await update(rig, "2")
        for count in (1, 2):
            await rig.send("model_rollback", model_id="m", command_id="once")
            first, *others = await rig.responses("once", count)
            assert all(other == first for other in others)
    async with rig.running():
        await rig.send("model_rollback", model_id="m", command_id="once")
        assert (await rig.responses("once", 3))[2] == first
        await check_version(rig, "1")


def begins(change: Change) -> bool:
    """Tell of a change whether a rollback begins with it."""
    return any(version.rollback for version in change.versions)


def ends(change: Change) -> bool:
    """Tell of a change whether a rollback ends with it."""
    return bool(change.versions and change.answers and not begins(change))


async def test_a_rollback_that_was_interrupted_is_carried_out_by_the_next_process(rig: Rig) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        await update(rig, "2")
        gate = rig.hold("record", ends)
        await rig.send("model_rollback", model_id="m", command_id="cut")
        await gate.reached()
        refusal = await rig.download("v3/", "d3", "m", publish="replace")
        assert refusal["error_code"] == "destination_busy"
    assert tree(rig.downloads / "m") == TREES["1"]
    rig.gates.clear()
    async with rig.running():
        [response] = await rig.responses("cut")
        assert response["model"]["model_version"] == "1"
        await check_version(rig, "1")
        assert (await roll_back(rig))["model"]["model_version"] == "2"
        assert await rig.responses("cut") == [response]


async def test_a_rollback_whose_files_cannot_be_exchanged_changes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        await update(rig, "2")

        def fail(one: Path, other: Path) -> None:
            raise PermissionError(1, "not permitted", str(one))

        with monkeypatch.context() as patch:
            patch.setattr(replace, "exchange", fail)
            assert (await roll_back(rig))["error_code"] == "destination_not_writable"
        await check_version(rig, "2")
        await update(rig, "3")
        assert (await roll_back(rig))["model"]["model_version"] == "2"


@pytest.mark.parametrize("at", ["begin", "end"])
async def test_a_full_state_disk_refuses_a_rollback_or_lets_it_wait(
    rig: Rig, clock: ManualClock, at: str
) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        await update(rig, "2")
        with rig.disk.full({"begin": "INTO versions", "end": "INTO models"}[at], times=1):
            command = await rig.send("model_rollback", model_id="m")
            asking = asyncio.ensure_future(rig.responses(command))
            await rig.while_time_passes(asking.done)
        [response] = asking.result()
        assert rig.disk.refused == 1
        if at == "begin":
            assert response["error_code"] == "disk_full"
            response = await roll_back(rig)
        assert response["model"]["model_version"] == "1"
        await check_version(rig, "1")


@pytest.mark.parametrize("state", [State.PUBLISHING, State.COMPLETED])
async def test_a_replacement_that_was_interrupted_goes_on(rig: Rig, state: State) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        gate = rig.hold("record", reaches(state))
        await order(rig, "2")
        await gate.reached()
        assert tree(rig.downloads / "m") == TREES["1" if state is State.PUBLISHING else "2"]
        gate.open()
    async with rig.running():
        await rig.completed("d2")
        await check_version(rig, "2")
        assert kept(rig) == [TREES["1"]]
        assert (await roll_back(rig))["model"]["model_version"] == "1"


@pytest.mark.parametrize("what", ["resume", "cancel"])
async def test_an_exchange_that_could_not_be_recorded_is_completed_or_undone(
    rig: Rig, what: str
) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        with rig.disk.full("download_completed", times=1):
            await order(rig, "2")
            await rig.becomes(State.FAILED, "d2")
        assert tree(rig.downloads / "m") == TREES["2"]
        assert (await roll_back(rig))["error_code"] == "version_not_found"
        fetched = len(rig.engine.fetched)
        assert (await rig.ask(what, download_id="d2"))["success"]
        if what == "resume":
            await rig.completed("d2")
            await check_version(rig, "2")
            assert (await roll_back(rig))["success"]
        else:
            await rig.until(lambda: not (rig.downloads / ".s3downloader").exists())
        await check_version(rig, "1")
        assert len(rig.engine.fetched) == fetched


async def test_a_replacement_that_cannot_be_made_leaves_all_as_it_was(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes(rig)

    def fail(one: Path, other: Path) -> None:
        raise PermissionError(1, "not permitted", str(one))

    async with rig.running():
        await update(rig, "1")
        with monkeypatch.context() as patch:
            patch.setattr(replace, "exchange", fail)
            await order(rig, "2")
            await rig.becomes(State.FAILED, "d2")
        await check_version(rig, "1")
        fetched = list(rig.engine.fetched)
        await rig.ask("resume", download_id="d2")
        await rig.completed("d2")
        await check_version(rig, "2")
        assert rig.engine.fetched == fetched
        assert kept(rig) == [TREES["1"]]


@pytest.mark.parametrize("publish", ["merge", "replace"])
@pytest.mark.parametrize("source", ["v1/", "v2/"])
async def test_an_update_fetches_what_changed(rig: Rig, publish: str, source: str) -> None:
    rig.source.objects = {f"v1/{n}": 10 for n in range(10)}
    async with rig.running():
        await rig.download("v1/", "first", "m", publish=publish)
        await rig.completed("first")
        rig.engine.fetched.clear()
        rig.source.objects = {f"{source}{n}": 10 for n in range(10)}
        rig.source.etags[f"{source}3"] = "changed"
        (rig.downloads / "m" / "7").write_bytes(b"0123456789")
        await rig.download(source, "second", "m", publish=publish)
        completed = await rig.completed("second")
        assert sorted(rig.engine.fetched) == [f"{source}3", f"{source}7"]
        assert (completed["files"], completed["bytes"]) == (10, 100)
        assert tree(rig.downloads / "m") == {str(n): 10 for n in range(10)}
        assert (rig.downloads / "m" / "7").read_bytes() == bytes(10)


async def test_what_was_rolled_back_is_not_fetched_again(rig: Rig) -> None:
    publishes(rig)
    async with rig.running():
        await update(rig, "1")
        await update(rig, "2")
        await roll_back(rig)
        rig.engine.fetched.clear()
        await update(rig, "2", download_id="again")
        assert rig.engine.fetched == []
        await check_version(rig, "2")


async def test_files_that_need_not_be_fetched_need_no_space(rig: Rig) -> None:
    size = 1 << 30
    rig.source.objects = {"v1/a": size, "v2/a": size, "v2/b": 10}
    async with rig.running():
        await rig.download("v1/", "first", "m")
        await rig.completed("first")
        free = (await rig.ask("disk_space"))["disk_space"]["free"]
        rig.configuration["MinFreeBytes"] = free - size // 2
    async with rig.running():
        await rig.download("v2/", "second", "m")
        await rig.completed("second")


@pytest.mark.parametrize("below", ["", "."])
async def test_the_root_of_what_is_allowed_is_not_replaced(rig: Rig, below: str) -> None:
    publishes(rig)
    async with rig.running():
        refusal = await rig.download("v1/", "x", below, publish="replace")
        assert refusal["error_code"] == "destination_not_allowed"
        assert "merge" in refusal["error"]
        assert await rig.listed() == {}
