"""Bandwidth limits hold on the link from the moment at which they are set."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from s3downloader.core.aio import timeout
from sandbox.device import COMPONENT
from sandbox.servers import Broker, ObjectServer

from ..support import PATIENCE, eventually
from .conftest import Bench, make_bench, sha256
from .test_main_job import children

MiB = 1 << 20
CONNECTIONS = 2
SLOW = MiB // 4
"""A rate in bytes per second at which no download of these tests completes."""
IN_A_SOCKET = 6 * MiB
"""The maximum size of a receive buffer. Source: tcp_rmem in tcp(7)."""


async def check_rate(bench: Bench, limit: int, seconds: float) -> None:
    """Wait for the bytes of so many seconds, and check that they do not arrive too early."""
    now = asyncio.get_running_loop().time
    before, passed, began = bench.statuses_of("b")[-1]["bytes_done"], bench.link.bytes_down, now()
    goal = before + int(limit * seconds)
    await bench.operator.progress("b", lambda d: d["bytes_done"] >= goal)
    assert_within(limit, bench.link.bytes_down - passed, now() - began)


def assert_within(limit: int, passed: int, took: float) -> None:
    """Check that at most the bytes of one second more than allowed arrived.

    Bytes in socket buffers count too.
    """
    assert passed <= limit * (took + 1) + CONNECTIONS * IN_A_SOCKET, f"{passed} in {took} s"


async def begin(bench: Bench, key: str, **fields: Any) -> None:
    await bench.operator.ask(
        "download",
        bucket="models",
        key=key,
        download_id="b",
        concurrency=CONNECTIONS,
        **fields,
    )
    await bench.operator.progress("b", lambda d: d["progress"] > 0)


async def test_a_download_s_limit_is_raised_and_lowered_while_it_runs(
    bench: Bench, object_server: ObjectServer
) -> None:
    expected = await object_server.make("limited/own", 40 * MiB)
    await begin(bench, "limited/own", max_bandwidth=SLOW)
    await check_rate(bench, SLOW, 2.0)
    for limit, seconds in ((10 * MiB, 1.0), (3 * MiB, 1.0)):
        await bench.operator.ask("limits", download_id="b", max_bandwidth=limit)
        await check_rate(bench, limit, seconds)
    shown = (await bench.operator.ask("limits"))["downloads"]
    assert [limit["max_bandwidth"] for limit in shown] == [3 * MiB]
    await bench.operator.ask("limits", download_id="b", max_bandwidth=None)
    await bench.operator.event("download_completed", "b")
    assert sha256(bench.downloads / "own") == expected
    assert bench.link.bytes_down < 41 * MiB


async def test_a_command_overrides_the_configured_limit_of_the_device(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> None:
    expected = await object_server.make("limited/device", 32 * MiB)
    configuration = {"MaxBandwidth": SLOW}
    async with make_bench("greengrass", tmp_path, broker, object_server, configuration) as bench:
        await bench.device.start()
        await bench.up()
        await begin(bench, "limited/device")
        await check_rate(bench, SLOW, 2.0)
        assert bench.nucleus is not None
        bench.nucleus.set_configuration(COMPONENT, {**configuration, "MaxBandwidth": 9 * MiB})
        async with timeout(PATIENCE):
            while (await bench.operator.ask("limits"))["max_bandwidth"] != 9 * MiB:
                continue
        await check_rate(bench, 9 * MiB, 1.0)
        response = await bench.operator.ask("limits", max_bandwidth=0)
        assert response["configured_max_bandwidth"] == 9 * MiB
        await bench.operator.event("download_completed", "b")
        assert sha256(bench.downloads / "device") == expected


async def test_a_limit_takes_what_s5cmd_still_has_over_to_ranges(
    bench: Bench, object_server: ObjectServer
) -> None:
    sums = {name: await object_server.make(f"limited/over/{name}", 12 * MiB) for name in "abc"}
    bench.link.freeze_after(8 * MiB)
    refused = await bench.operator.ask(
        "download", bucket="models", key="limited/over/", engine="s5cmd", max_bandwidth=MiB
    )
    assert refused["error_code"] == "invalid_field"
    await begin(bench, "limited/over/", engine="s5cmd", numworkers=2)
    assert len(children(bench.device.pid)) == 1
    limit = 6 * MiB
    await bench.operator.ask("limits", max_bandwidth=limit)
    await eventually(lambda: not children(bench.device.pid))
    passed, began = bench.link.bytes_down, asyncio.get_running_loop().time()
    bench.link.thaw()
    async with timeout(PATIENCE):
        await bench.link.carried(passed + 16 * MiB)
    took = asyncio.get_running_loop().time() - began
    assert_within(limit, bench.link.bytes_down - passed, took)
    await bench.operator.ask("limits", max_bandwidth=None)
    completed = await bench.operator.event("download_completed", "b")
    assert completed["files"] == 3
    assert {name: sha256(bench.downloads / name) for name in sums} == sums
    assert bench.operator.events("b") == ["download_started", "download_completed"]
    assert bench.leftovers() == []
