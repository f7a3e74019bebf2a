"""After an update of the component, all unfinished downloads continue."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import msgspec

from sandbox.servers import Broker, ObjectServer

from ..store.test_migration import write_state
from .conftest import Bench, make_bench
from .recorded import Arrived, arrived, files_of, objects_of, put_objects, restore, version_in

MiB = 1 << 20


async def leave_first_version(bench: Bench, server: ObjectServer) -> None:
    """Leave the state of the first version after SIGTERM:

    it has `a` of two files, but not `b`.

    It is the state that is kept for tests, with the objects and paths of this bench.
    """
    staging = bench.downloads / ".s3downloader" / hashlib.sha256(b"d1").hexdigest()[:16]
    (staging / "files").mkdir(parents=True)
    sizes = {"a": 3 * MiB, "b": 6 * MiB}
    etags = {}
    for name, size in sizes.items():
        await server.make(f"vlm/{name}", size)
        head = server.client().head_object(Bucket="models", Key=f"vlm/{name}")
        etags[name] = head["ETag"].strip('"')
    (staging / "files" / "a").write_bytes(body(server, "a"))
    state = bench.device.directory / "state"
    state.mkdir()
    write_state(state, 1)
    with sqlite3.connect(state / "state.db") as connection:
        [[old]] = connection.execute("SELECT body FROM downloads")
        download = {
            **msgspec.json.decode(old),
            "destination": str(bench.downloads / "vlm"),
            "staging": str(staging),
            "bytes_done": sizes["a"],
            "bytes_total": sum(sizes.values()),
        }
        connection.execute("UPDATE downloads SET body = ?", [msgspec.json.encode(download)])
        for name, size in sizes.items():
            connection.execute(
                "UPDATE files SET size = ?, etag = ? WHERE path = ?", [size, etags[name], name]
            )
    connection.close()


def body(server: ObjectServer, name: str) -> bytes:
    return bytes(server.client().get_object(Bucket="models", Key=f"vlm/{name}")["Body"].read())


def schema_version(bench: Bench) -> int:
    connection = sqlite3.connect(bench.device.directory / "state" / "state.db")
    [[version]] = connection.execute("PRAGMA user_version")
    connection.close()
    return int(version)


async def test_what_the_first_version_had_under_way_is_completed(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        device, operator, link = bench.device, bench.operator, bench.link
        await leave_first_version(bench, object_server)
        assert schema_version(bench) == 1
        link.freeze_after(4 * MiB)
        await device.start()
        await operator.progress("d1", lambda d: d["status"] == "downloading" and d["progress"] > 50)
        assert await device.terminate() == 0
        assert schema_version(bench) > 1
        assert not (bench.downloads / "vlm").exists()

        link.thaw()
        await device.start()
        completed = await operator.event("download_completed", "d1")
        assert (completed["files"], completed["bytes"]) == (2, 9 * MiB)
        assert link.bytes_down < 8 * MiB, "what was there is not fetched again"
        for name in ("a", "b"):
            assert (bench.downloads / "vlm" / name).read_bytes() == body(object_server, name)
        model = (await operator.ask("model_get", model_id="vlm"))["model"]
        assert model["local_path"] == str(bench.downloads / "vlm")
        assert bench.leftovers() == []
        assert [h.message["event"] for h in operator.received if "event" in h.message].count(
            "download_started"
        ) == 1


BEFORE = 3
"""The version of the recorded state with which the present daemon starts."""

OVERHEAD = 200_000
"""The maximum bytes of listings and of headers."""


async def check_all_goes_on(bench: Bench, left: dict[str, Arrived]) -> None:
    """Check that the recorded downloads complete, without fetching again what had arrived."""
    operator = bench.operator
    for command_id in ("early", "late"):
        assert (await operator.response(command_id))["success"]
    await operator.event("download_error", "overdue")
    for name, download in left.items():
        if download.state in ("paused", "failed"):
            assert (await operator.ask("resume", download_id=name))["success"]
        await operator.event("download_completed", name)
        assert files_of(bench.downloads, name) == objects_of(name)
    missing = sum(download.size - download.arrived for download in left.values())
    assert bench.link.bytes_down <= missing + OVERHEAD, "what was there is not fetched again"

    models = (await operator.ask("model_list"))["models"]
    assert {m["model_id"] for m in models} == {"by-hand", "queued", "running", "vlm"}
    for version in ("v3", "v2", "v3"):
        model = (await operator.ask("model_get", model_id="vlm"))["model"]
        assert version_in(bench.downloads) == model["model_version"] == version
        assert (await operator.ask("model_rollback", model_id="vlm"))["success"]
    assert (await operator.ask("limits"))["max_bandwidth"] == 64 * MiB


async def test_nothing_that_the_version_before_left_is_lost(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    await put_objects(object_server)
    left = arrived(BEFORE)
    assert {download.state for download in left.values()} >= {
        *("queued", "downloading", "waiting", "paused", "failed")
    }
    async with make_bench("mqtt", tmp_path, broker, object_server, {}) as bench:
        restore(bench.device.directory, BEFORE)
        await bench.device.start()
        await check_all_goes_on(bench, left)
