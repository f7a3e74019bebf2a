"""A model is downloaded under MQTT command, with pauses, failures and restarts."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from sandbox.operator import DeviceMessage
from sandbox.servers import ObjectServer

from ..support import eventually, is_running
from .conftest import Bench, sha256

MiB = 1 << 20


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_model_comes_down_is_registered_and_deleted(
    either: Bench, object_server: ObjectServer
) -> None:
    big = await object_server.make("main/vlm/weights.bin", 24 * MiB)
    await object_server.put("main/vlm/deep/config.json", b"{}")
    operator = either.operator
    meta = {"model_id": "vlm-7B", "model_name": "vlm-7B", "model_version": "2.5", "note": [1]}

    response = await operator.ask(
        "download",
        bucket="models",
        key="main/vlm/",
        destination=f"{either.downloads}/vlm",
        download_id="d1",
        model_meta=meta,
    )
    assert (response["success"], response["status"]) == (True, "queued")
    completed = await operator.event("download_completed", "d1")
    assert completed["command_id"] == response["command_id"]
    assert (completed["progress"], completed["bytes"]) == (100, 24 * MiB + 2)
    assert completed["files"] == 2
    added = await operator.event("model_added", "d1")
    assert added["local_path"] == f"{either.downloads}/vlm"
    assert operator.events("d1") == ["download_started", "download_completed", "model_added"]
    assert sha256(either.downloads / "vlm" / "weights.bin") == big
    assert (either.downloads / "vlm" / "deep" / "config.json").read_bytes() == b"{}"
    assert either.leftovers() == []

    model = (await operator.ask("model_get", model_id="vlm-7B"))["model"]
    assert {name: model[name] for name in meta} == meta
    assert model["local_path"] == f"{either.downloads}/vlm"
    assert (await operator.ask("model_list"))["models"] == [model]
    if nucleus := either.nucleus:
        await eventually(lambda: _reported(either) == {"vlm-7B": model})
    assert (await operator.ask("model_delete", model_id="vlm-7B"))["success"]
    assert (await operator.ask("model_list"))["models"] == []
    if nucleus:
        await eventually(lambda: _reported(either) == {})
    gone = await operator.ask("model_get", model_id="vlm-7B")
    assert gone["error_code"] == "model_not_found"


def _reported(bench: Bench) -> object:
    """Return the device's models in the shadow in the cloud."""
    assert bench.nucleus is not None
    if "models" not in bench.nucleus.shadows.names(bench.device.thing_name):
        return None
    document = bench.nucleus.shadows.get(bench.device.thing_name, "models")
    return document["state"].get("reported", {}).get("models", {})


async def test_two_downloads_run_side_by_side_and_one_is_paused_alone(
    either: Bench, object_server: ObjectServer
) -> None:
    sums = [await object_server.make(f"pair/{name}", 16 * MiB) for name in "ab"]
    either.link.rate = MiB  # so slow that neither completes while this test waits
    operator = either.operator
    for name in "ab":
        await operator.ask("download", bucket="models", key=f"pair/{name}", download_id=name)
    for name in "ab":
        await operator.progress(name, lambda d: d["progress"] > 1)

    paused = await operator.ask("pause", download_id="a")
    assert paused["status"] == "paused"
    either.link.rate = None
    await operator.event("download_completed", "b")
    assert operator.events("a") == ["download_started", "download_paused"]
    assert not (either.downloads / "a").exists()

    assert (await operator.ask("resume", download_id="a"))["success"]
    await operator.event("download_completed", "a")
    assert [sha256(either.downloads / name) for name in "ab"] == sums
    assert either.leftovers() == []


@pytest.mark.parametrize("engine", ["s5cmd", "ranged"])
async def test_after_kill_9_the_download_goes_on_by_itself(
    either: Bench, object_server: ObjectServer, engine: str
) -> None:
    keys = [f"killed/{n}" for n in range(20)]
    sums = [await object_server.make(key, 2 * MiB) for key in keys]
    either.link.freeze_after(24 * MiB)
    operator, device = either.operator, either.device
    await operator.ask(
        "download", bucket="models", key="killed/", download_id="k", engine=engine, numworkers=4
    )
    await operator.progress("k", lambda d: d["files_done"] >= 5)
    processes = children(device.pid)
    assert len(processes) == (engine == "s5cmd")

    await device.kill()
    await eventually(lambda: not any(map(is_running, processes)))
    fetched = either.link.bytes_down
    either.link.thaw()
    await device.start()
    await operator.event("download_completed", "k")
    assert operator.events("k") == ["download_started", "download_completed"]
    assert [sha256(either.downloads / Path(key).name) for key in keys] == sums
    assert either.leftovers() == []
    assert either.link.bytes_down - fetched < 34 * MiB, "what had arrived was fetched again"


async def test_a_paused_download_and_its_files_outlive_a_restart(
    bench: Bench, object_server: ObjectServer
) -> None:
    keys = [f"paused/{n}" for n in range(12)]
    sums = [await object_server.make(key, 1 * MiB) for key in keys]
    bench.link.freeze_after(7 * MiB)
    operator = bench.operator
    await operator.ask("download", bucket="models", key="paused/", download_id="p", numworkers=2)
    await operator.progress("p", lambda d: d["files_done"] >= 4)
    await operator.ask("pause", download_id="p")
    assert children(bench.device.pid) == []

    assert await bench.device.terminate() == 0
    bench.link.thaw()
    await bench.device.start()
    fetched = bench.link.bytes_down
    listed = (await operator.ask("list"))["downloads"]
    assert [d["status"] for d in listed] == ["paused"]
    await operator.ask("resume", download_id="p")
    await operator.event("download_completed", "p")
    assert operator.events("p").count("download_started") == 1
    assert [sha256(bench.downloads / Path(key).name) for key in keys] == sums
    assert bench.link.bytes_down - fetched < 9 * MiB, "finished files were fetched again"


@pytest.mark.parametrize("engine", ["s5cmd", "ranged"])
async def test_sigterm_in_mid_download_ends_it_within_three_seconds(
    bench: Bench, object_server: ObjectServer, engine: str
) -> None:
    expected = await object_server.make("term/big", 24 * MiB)
    bench.link.freeze_after(8 * MiB)
    operator = bench.operator
    await operator.ask("download", bucket="models", key="term/big", download_id="t", engine=engine)
    await operator.progress("t", lambda d: d["progress"] > 10)
    processes = children(bench.device.pid)
    # No byte arrives any more, and the daemon would wait longer than this for a silent server.
    assert await bench.device.terminate(within=20) == 0
    assert not any(map(is_running, processes))
    bench.link.thaw()
    await bench.device.start()
    await operator.event("download_completed", "t")
    assert sha256(bench.downloads / "big") == expected


async def test_cancel_removes_what_was_staged_and_touches_nothing_else(
    bench: Bench, object_server: ObjectServer
) -> None:
    await object_server.make("cancelled/big", 16 * MiB)
    (bench.downloads / "mine").write_text("kept")
    bench.link.freeze_after(6 * MiB)
    operator = bench.operator
    await operator.ask("download", bucket="models", key="cancelled/", download_id="c")
    await operator.progress("c", lambda d: d["progress"] > 10)
    response = await operator.ask("cancel", download_id="c")
    assert response["status"] == "cancelled"
    await operator.event("download_cancelled", "c")
    await eventually(lambda: [p.name for p in bench.downloads.iterdir()] == ["mine"])
    again = await operator.ask("resume", download_id="c")
    assert again["error_code"] == "invalid_state"


async def test_a_cut_network_makes_it_wait_and_go_on(
    bench: Bench, object_server: ObjectServer
) -> None:
    expected = await object_server.make("away/big", 8 * MiB)
    bench.link.cut()
    operator = bench.operator
    await operator.ask("download", bucket="models", key="away/big", download_id="w", retry_count=0)
    waiting = await operator.progress("w", lambda d: d["status"] == "waiting", within=60)
    assert waiting["error_code"] == "network_unreachable"
    bench.link.restore()
    await operator.event("download_completed", "w", within=60)
    assert sha256(bench.downloads / "big") == expected


async def test_a_source_replaced_on_the_way_arrives_wholly_new(
    bench: Bench, object_server: ObjectServer
) -> None:
    await object_server.make("moving/a", 8 * MiB)
    old = await object_server.make("moving/steady", 1 * MiB)
    bench.link.freeze_after(5 * MiB)
    operator = bench.operator
    await operator.ask("download", bucket="models", key="moving/", download_id="m")
    await operator.progress("m", lambda d: d["progress"] > 30)
    content = bytes(range(256)) * (32 * 1024)
    await object_server.put("moving/a", content)
    bench.link.thaw()
    await operator.event("download_completed", "m")
    assert (bench.downloads / "a").read_bytes() == content
    assert sha256(bench.downloads / "steady") == old


async def test_progress_never_runs_backwards(bench: Bench, object_server: ObjectServer) -> None:
    await object_server.make("forward/big", 12 * MiB)
    bench.link.freeze_after(7 * MiB)
    operator = bench.operator
    await operator.ask("download", bucket="models", key="forward/big", download_id="f")
    await operator.progress("f", lambda d: d["progress"] > 40)
    assert (await operator.ask("pause", download_id="f"))["success"]
    bench.link.thaw()
    bench.link.freeze_after(4 * MiB)
    assert (await operator.ask("resume", download_id="f"))["success"]
    await operator.progress("f", lambda d: d["progress"] > 80)
    bench.link.thaw()
    await operator.event("download_completed", "f")
    bytes_done = [download["bytes_done"] for download in bench.statuses_of("f")]
    assert bytes_done == sorted(bytes_done)


async def test_more_than_max_concurrent_downloads_wait_their_turn(
    bench: Bench, object_server: ObjectServer
) -> None:
    for n in range(4):
        await object_server.make(f"turns/{n}", 2 * MiB)

    def at_work(received: DeviceMessage) -> int:
        downloads = received.message.get("downloads", []) if received.topic == "status" else []
        return sum(d["status"] not in ("queued", "completed") for d in downloads)

    bench.link.freeze_after(MiB)
    operator = bench.operator
    for n in range(4):
        await operator.ask("download", bucket="models", key=f"turns/{n}", download_id=f"t{n}")
    await operator.wait_for(lambda received: at_work(received) == 2)
    bench.link.thaw()
    for n in range(4):
        await operator.event("download_completed", f"t{n}")
    assert max(map(at_work, operator.received)) == 2
    planned = re.findall(r"download (t\d) is planning", bench.device.log)
    assert planned == ["t0", "t1", "t2", "t3"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_daemon_stops_with_status_0(bench: Bench, number: signal.Signals) -> None:
    os.kill(bench.device.pid, number)
    assert await bench.device.wait() == 0


async def test_an_object_that_leaves_the_source_on_the_way_is_left_out(
    bench: Bench, object_server: ObjectServer
) -> None:
    await object_server.make("leaving/a", 6 * MiB)
    await object_server.put("leaving/z", b"gone before its turn")
    bench.link.freeze_after(3 * MiB)
    await bench.operator.ask(
        "download", bucket="models", key="leaving/", download_id="l", numworkers=1
    )
    await bench.operator.progress("l", lambda d: d["progress"] > 20)
    object_server.client().delete_object(Bucket="models", Key="leaving/z")
    bench.link.thaw()
    completed = await bench.operator.event("download_completed", "l")
    assert completed["files"] == 1
    assert [path.name for path in bench.downloads.iterdir()] == ["a"]
