"""A model is replaced while it is read, downloads only what has changed, and is rolled back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sandbox.servers import ObjectServer

from ..support import eventually
from .conftest import Bench

MiB = 1 << 20
NAMES = [f"part-{n}" for n in range(8)]


async def put_version(server: ObjectServer, prefix: str, version: str) -> None:
    """Write the objects of a version; the content of all of them is its name."""
    for name in NAMES:
        await server.put(f"{prefix}/{version}/{name}", version.encode() * 1_000)


async def update(bench: Bench, prefix: str, version: str, **fields: Any) -> dict[str, Any]:
    """Replace the model by a version; return the event of its completion."""
    await order(bench, prefix, version, **fields)
    return await bench.operator.event("download_completed", f"{prefix}-{version}")


async def order(bench: Bench, prefix: str, version: str, **fields: Any) -> None:
    fields = {"publish": "replace", **fields}
    response = await bench.operator.ask(
        "download",
        bucket="models",
        key=f"{prefix}/{version}/",
        destination=f"{bench.downloads}/m",
        download_id=f"{prefix}-{version}",
        model_meta={"model_id": "m", "model_version": version},
        **fields,
    )
    assert response["success"], response


class Reader:
    """Reads a model repeatedly, as an application does, by its paths and by its directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.passes = 0
        self.seen: set[str] = set()
        self.faults: list[object] = []

    def read(self, stop: threading.Event) -> None:
        while not stop.is_set() and not self.faults:
            try:
                for name in NAMES:
                    (self.place / name).read_bytes()
                self._read_at_once()
            except OSError as error:
                self.faults.append(error)
            self.passes += 1

    def has_seen(self, version: str) -> bool:
        return version in self.seen

    def _read_at_once(self) -> None:
        directory = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = {_read_in(directory, name) for name in NAMES}
        finally:
            os.close(directory)
        self.seen |= found
        if len(found) != 1:
            self.faults.append(found)


def _read_in(directory: int, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    with os.fdopen(descriptor) as file:
        return file.read()[:2]


@contextmanager
def reading(place: Path) -> Iterator[Reader]:
    """Read the model at `place` in a thread during the context; it must always be complete."""
    reader, stop = Reader(place), threading.Event()
    thread = threading.Thread(target=reader.read, args=(stop,))
    thread.start()
    try:
        yield reader
    finally:
        stop.set()
        thread.join()
    assert reader.faults == []


def logged(bench: Bench, line: str) -> bool:
    return line in bench.device.log


def contents(bench: Bench) -> set[str]:
    """Return the versions of the model's files."""
    return {(bench.downloads / "m" / name).read_text()[:2] for name in NAMES}


async def test_a_reader_sees_whole_versions_only(bench: Bench, object_server: ObjectServer) -> None:
    versions = [f"v{n}" for n in range(6)]
    for version in versions:
        await put_version(object_server, "read", version)
    await update(bench, "read", "v0")
    with reading(bench.downloads / "m") as reader:
        for version in versions[1:]:
            await update(bench, "read", version)
            await eventually(partial(reader.has_seen, version))
        for version in ("v4", "v5"):
            response = await bench.operator.ask("model_rollback", model_id="m")
            assert response["model"]["model_version"] == version
    assert reader.seen == set(versions)
    assert reader.passes > len(versions)


@pytest.mark.parametrize("publish", ["merge", "replace"])
async def test_an_update_costs_what_changed(
    bench: Bench, object_server: ObjectServer, publish: str
) -> None:
    prefix = f"update-{publish}"
    for n in range(10):
        content = os.urandom(MiB)
        for version in ("v1", "v2"):
            changed = os.urandom(MiB) if (version, n) == ("v2", 7) else content
            await object_server.put(f"{prefix}/{version}/{n}", changed)
    await update(bench, prefix, "v1", publish=publish)
    fetched = bench.link.bytes_down
    completed = await update(bench, prefix, "v2", publish=publish)
    assert (completed["files"], completed["bytes"]) == (10, 10 * MiB)
    assert MiB < bench.link.bytes_down - fetched < 1.2 * MiB
    assert (bench.downloads / "m" / "7").read_bytes() == changed_file(object_server, prefix)
    if publish == "replace":
        await bench.operator.ask("model_rollback", model_id="m")
        assert (bench.downloads / "m" / "7").read_bytes() != changed_file(object_server, prefix)


def changed_file(server: ObjectServer, prefix: str) -> bytes:
    body = server.client().get_object(Bucket="models", Key=f"{prefix}/v2/7")["Body"]
    return bytes(body.read())


async def test_rollback_moves_files_registry_and_shadow_back_and_forth(
    greengrass: Bench, object_server: ObjectServer
) -> None:
    for version in ("v1", "v2"):
        await put_version(object_server, "back", version)
        await update(greengrass, "back", version)
    operator, nucleus = greengrass.operator, greengrass.nucleus
    assert nucleus

    def reports(model: Any) -> bool:
        document = nucleus.shadows.get(greengrass.device.thing_name, "models")
        return bool(document["state"]["reported"]["models"]["m"] == model)

    for version in ("v1", "v2"):
        response = await operator.ask("model_rollback", model_id="m")
        assert (response["success"], response["model"]["model_version"]) == (True, version)
        assert contents(greengrass) == {version}
        assert (await operator.ask("model_get", model_id="m"))["model"] == response["model"]
        await eventually(partial(reports, response["model"]))


async def test_kill_9_around_the_publishing_leaves_one_version_whole(
    bench: Bench, object_server: ObjectServer
) -> None:
    moments = ["verifying", "publishing", "completed"]
    versions = [f"v{n}" for n in range(len(moments) + 1)]
    for version in versions:
        await put_version(object_server, "kill", version)
    await update(bench, "kill", "v0")
    with reading(bench.downloads / "m") as reader:
        for version, moment in zip(versions[1:], moments, strict=True):
            await order(bench, "kill", version)
            await eventually(partial(logged, bench, f"download kill-{version} is {moment}"))
            await bench.device.kill()
            assert len(contents(bench)) == 1
            await bench.device.start()
            await bench.operator.event("download_completed", f"kill-{version}")
            assert contents(bench) == {version}
    assert reader.seen <= set(versions)
    response = await bench.operator.ask("model_rollback", model_id="m")
    assert response["model"]["model_version"] == versions[-2]
    assert contents(bench) == {versions[-2]}
    slots = bench.downloads / ".s3downloader"
    await eventually(lambda: len(list(slots.glob("versions/*"))) == len(list(slots.iterdir())) == 1)
