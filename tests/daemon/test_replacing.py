"""`publish: replace`, the retained versions, and rollback."""

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
from .harness import Harness, Message, reaches

V1 = {"v1/config": 10, "v1/weights": 100, "v1/old": 5}
V2 = {"v2/config": 10, "v2/weights": 200, "v2/new/a": 7}
TREES = {
    "1": {"config": 10, "weights": 100, "old": 5},
    "2": {"config": 10, "weights": 200, "new/a": 7},
    "3": {"config": 30, "weights": 300},
}


def publishes(harness: Harness) -> None:
    harness.source.objects = {
        f"v{version}/{path}": size for version, tree in TREES.items() for path, size in tree.items()
    }


def tree(place: Path) -> dict[str, int]:
    """Return the sizes of all files in a directory, by path."""
    files = (path for path in place.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(place)): path.stat().st_size for path in files}
    return {path: size for path, size in sizes.items() if not path.startswith(".s3downloader")}


def kept(harness: Harness) -> list[dict[str, int]]:
    """Return the retained versions of what is in DownloadDir."""
    found = []
    for slot in (harness.downloads / ".s3downloader" / "versions").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # it is being deleted
            found.append(tree(slot))
    return found


async def order(harness: Harness, version: str, **fields: Any) -> str:
    """Send a download of a version that replaces the model; return the command_id."""
    meta = {"model_id": "m", "model_version": version}
    fields = {"publish": "replace", "model_meta": meta, "download_id": f"d{version}", **fields}
    response = await harness.download(f"v{version}/", below="m", **fields)
    assert response["success"], response
    return str(response["download_id"])


async def update(harness: Harness, version: str, **fields: Any) -> None:
    await harness.completed(await order(harness, version, **fields))


async def roll_back(harness: Harness) -> Message:
    return await harness.ask("model_rollback", model_id="m")


async def check_version(harness: Harness, version: str) -> None:
    """Check that the files and the registry are those of a version."""
    assert tree(harness.downloads / "m") == TREES[version]
    model = (await harness.ask("model_get", model_id="m"))["model"]
    assert (model["model_version"], model["local_path"]) == (version, str(harness.downloads / "m"))


async def test_rollback_restores_a_version_and_its_entry_and_goes_back(
    harness: Harness,
) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        await update(harness, "2")
        await check_version(harness, "2")
        assert kept(harness) == [TREES["1"]]
        for version in ("1", "2", "1"):
            response = await roll_back(harness)
            assert response["model"]["model_version"] == version
            await check_version(harness, version)
    async with harness.running():
        assert (await roll_back(harness))["model"]["model_version"] == "2"
        await check_version(harness, "2")


async def test_a_single_object_is_replaced_and_comes_back(harness: Harness) -> None:
    harness.source.objects = {"a/model.bin": 10, "b/model.bin": 20, "c/model.bin": 20}
    place = harness.downloads / "m" / "model.bin"
    async with harness.running():
        for name in "abc":
            await harness.download(
                f"{name}/model.bin",
                name,
                "m",
                publish="replace",
                keep_versions=2,
                model_meta={"model_id": "m", "model_version": name},
            )
            await harness.completed(name)
        assert place.stat().st_size == 20
        assert harness.engine.fetched == ["a/model.bin", "b/model.bin"]
        for version, size in [("b", 20), ("c", 20)]:
            assert (await roll_back(harness))["model"]["model_version"] == version
            assert place.stat().st_size == size


@pytest.mark.parametrize("keep", [0, 1, 2])
async def test_so_many_versions_are_kept_as_were_asked_for(harness: Harness, keep: int) -> None:
    publishes(harness)
    async with harness.running():
        for version in "123":
            await update(harness, version, keep_versions=keep)
        expected = [TREES[version] for version in "21"[:keep]]
        await harness.until(lambda: len(kept(harness)) == keep)
        assert all(version in kept(harness) for version in expected)
        if keep == 0:
            assert (await roll_back(harness))["error_code"] == "version_not_found"
            await harness.until(lambda: not (harness.downloads / ".s3downloader").exists())


async def test_a_deleted_model_takes_its_earlier_versions_along(harness: Harness) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        await update(harness, "2")
        await harness.ask(
            "model_add", model_meta={"model_id": "n", "local_path": f"{harness.downloads}/m"}
        )
        await harness.ask("model_delete", model_id="m")
        assert kept(harness) == [TREES["1"]]
        await harness.ask("model_delete", model_id="n")
        await harness.until(lambda: not (harness.downloads / ".s3downloader").exists())
        assert tree(harness.downloads / "m") == TREES["2"]


async def test_rollback_is_refused_without_a_version_or_while_writing(
    harness: Harness,
) -> None:
    publishes(harness)
    async with harness.running():
        assert (await roll_back(harness))["error_code"] == "model_not_found"
        await update(harness, "1")
        assert (await roll_back(harness))["error_code"] == "version_not_found"
        await update(harness, "2")
        harness.engine.hold("v3/weights")
        await order(harness, "3", publish="merge")
        await harness.engine.stands_at("v3/weights")
        assert (await roll_back(harness))["error_code"] == "destination_busy"
        await check_version(harness, "2")
        await harness.ask("cancel", download_id="d3")
        assert (await roll_back(harness))["success"]


async def test_a_rollback_happens_once_for_each_command_id(harness: Harness) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        await update(harness, "2")
        for count in (1, 2):
            await harness.send("model_rollback", model_id="m", command_id="once")
            first, *others = await harness.responses("once", count)
            assert all(other == first for other in others)
    async with harness.running():
        await harness.send("model_rollback", model_id="m", command_id="once")
        assert (await harness.responses("once", 3))[2] == first
        await check_version(harness, "1")


def begins(change: Change) -> bool:
    """Return whether a rollback begins with a change."""
    return any(version.rollback for version in change.versions)


def ends(change: Change) -> bool:
    """Return whether a rollback ends with a change."""
    return bool(change.versions and change.responses and not begins(change))


async def test_an_interrupted_rollback_is_completed_after_a_restart(
    harness: Harness,
) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        await update(harness, "2")
        gate = harness.hold("record", ends)
        await harness.send("model_rollback", model_id="m", command_id="cut")
        await gate.reached()
        refusal = await harness.download("v3/", "d3", "m", publish="replace")
        assert refusal["error_code"] == "destination_busy"
    assert tree(harness.downloads / "m") == TREES["1"]
    harness.gates.clear()
    async with harness.running():
        [response] = await harness.responses("cut")
        assert response["model"]["model_version"] == "1"
        await check_version(harness, "1")
        assert (await roll_back(harness))["model"]["model_version"] == "2"
        assert await harness.responses("cut") == [response]


async def test_a_rollback_that_cannot_exchange_files_changes_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        await update(harness, "2")

        def fail(one: Path, other: Path) -> None:
            raise PermissionError(1, "not permitted", str(one))

        with monkeypatch.context() as patch:
            patch.setattr(replace, "exchange", fail)
            assert (await roll_back(harness))["error_code"] == "destination_not_writable"
        await check_version(harness, "2")
        await update(harness, "3")
        assert (await roll_back(harness))["model"]["model_version"] == "2"


@pytest.mark.parametrize("at", ["begin", "end"])
async def test_a_full_state_disk_refuses_a_rollback_or_lets_it_wait(
    harness: Harness, clock: ManualClock, at: str
) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        await update(harness, "2")
        with harness.disk.full({"begin": "INTO versions", "end": "INTO models"}[at], times=1):
            command = await harness.send("model_rollback", model_id="m")
            asking = asyncio.ensure_future(harness.responses(command))
            await harness.while_time_passes(asking.done)
        [response] = asking.result()
        assert harness.disk.refused == 1
        if at == "begin":
            assert response["error_code"] == "disk_full"
            response = await roll_back(harness)
        assert response["model"]["model_version"] == "1"
        await check_version(harness, "1")


@pytest.mark.parametrize("state", [State.PUBLISHING, State.COMPLETED])
async def test_a_replacement_that_was_interrupted_goes_on(harness: Harness, state: State) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        gate = harness.hold("record", reaches(state))
        await order(harness, "2")
        await gate.reached()
        assert tree(harness.downloads / "m") == TREES["1" if state is State.PUBLISHING else "2"]
        gate.open()
    async with harness.running():
        await harness.completed("d2")
        await check_version(harness, "2")
        assert kept(harness) == [TREES["1"]]
        assert (await roll_back(harness))["model"]["model_version"] == "1"


@pytest.mark.parametrize("what", ["resume", "cancel"])
async def test_an_unrecorded_exchange_is_completed_or_undone(harness: Harness, what: str) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        with harness.disk.full("download_completed", times=1):
            await order(harness, "2")
            await harness.becomes(State.FAILED, "d2")
        assert tree(harness.downloads / "m") == TREES["2"]
        assert (await roll_back(harness))["error_code"] == "version_not_found"
        fetched = len(harness.engine.fetched)
        assert (await harness.ask(what, download_id="d2"))["success"]
        if what == "resume":
            await harness.completed("d2")
            await check_version(harness, "2")
            assert (await roll_back(harness))["success"]
        else:
            await harness.until(lambda: not (harness.downloads / ".s3downloader").exists())
        await check_version(harness, "1")
        assert len(harness.engine.fetched) == fetched


async def test_a_replacement_that_cannot_be_made_leaves_all_as_it_was(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes(harness)

    def fail(one: Path, other: Path) -> None:
        raise PermissionError(1, "not permitted", str(one))

    async with harness.running():
        await update(harness, "1")
        with monkeypatch.context() as patch:
            patch.setattr(replace, "exchange", fail)
            await order(harness, "2")
            await harness.becomes(State.FAILED, "d2")
        await check_version(harness, "1")
        fetched = list(harness.engine.fetched)
        await harness.ask("resume", download_id="d2")
        await harness.completed("d2")
        await check_version(harness, "2")
        assert harness.engine.fetched == fetched
        assert kept(harness) == [TREES["1"]]


@pytest.mark.parametrize("publish", ["merge", "replace"])
@pytest.mark.parametrize("source", ["v1/", "v2/"])
async def test_an_update_fetches_what_changed(harness: Harness, publish: str, source: str) -> None:
    harness.source.objects = {f"v1/{n}": 10 for n in range(10)}
    async with harness.running():
        await harness.download("v1/", "first", "m", publish=publish)
        await harness.completed("first")
        harness.engine.fetched.clear()
        harness.source.objects = {f"{source}{n}": 10 for n in range(10)}
        harness.source.etags[f"{source}3"] = "changed"
        (harness.downloads / "m" / "7").write_bytes(b"0123456789")
        await harness.download(source, "second", "m", publish=publish)
        completed = await harness.completed("second")
        assert sorted(harness.engine.fetched) == [f"{source}3", f"{source}7"]
        assert (completed["files"], completed["bytes"]) == (10, 100)
        assert tree(harness.downloads / "m") == {str(n): 10 for n in range(10)}
        assert (harness.downloads / "m" / "7").read_bytes() == bytes(10)


async def test_what_was_rolled_back_is_not_fetched_again(harness: Harness) -> None:
    publishes(harness)
    async with harness.running():
        await update(harness, "1")
        await update(harness, "2")
        await roll_back(harness)
        harness.engine.fetched.clear()
        await update(harness, "2", download_id="again")
        assert harness.engine.fetched == []
        await check_version(harness, "2")


async def test_files_that_need_not_be_fetched_need_no_space(harness: Harness) -> None:
    size = 1 << 30
    harness.source.objects = {"v1/a": size, "v2/a": size, "v2/b": 10}
    async with harness.running():
        await harness.download("v1/", "first", "m")
        await harness.completed("first")
        free = (await harness.ask("disk_space"))["disk_space"]["free"]
        harness.configuration["MinFreeBytes"] = free - size // 2
    async with harness.running():
        await harness.download("v2/", "second", "m")
        await harness.completed("second")


@pytest.mark.parametrize("below", ["", "."])
async def test_the_root_of_what_is_allowed_is_not_replaced(harness: Harness, below: str) -> None:
    publishes(harness)
    async with harness.running():
        refusal = await harness.download("v1/", "x", below, publish="replace")
        assert refusal["error_code"] == "destination_not_allowed"
        assert "merge" in refusal["error"]
        assert await harness.listed() == {}
