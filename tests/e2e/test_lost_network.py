"""The network fails during a download, which waits, continues, and fetches no byte twice."""

from __future__ import annotations

from sandbox.servers import ObjectServer

from .conftest import Bench, sha256

MiB = 1 << 20
CONNECTIONS = 4
LARGEST_CHUNK = 2 * MiB


async def test_a_network_cut_in_mid_download_costs_only_open_chunks(
    bench: Bench, object_server: ObjectServer
) -> None:
    expected = await object_server.make("lost/big", 40 * MiB)
    bench.link.freeze_after(24 * MiB)
    operator = bench.operator
    await operator.ask(
        "download",
        bucket="models",
        key="lost/big",
        download_id="w",
        concurrency=CONNECTIONS,
        retry_count=0,
    )
    before = await operator.progress("w", lambda d: d["progress"] > 40)
    bench.link.cut()
    waiting = await operator.progress("w", lambda d: d["status"] == "waiting", within=60)
    assert waiting["error_code"] == "network_unreachable"
    assert waiting["bytes_done"] >= before["bytes_done"]
    bench.link.thaw()
    bench.link.restore()
    await operator.event("download_completed", "w", within=60)
    assert sha256(bench.downloads / "big") == expected
    assert bench.link.bytes_down <= (40 + 1) * MiB + CONNECTIONS * LARGEST_CHUNK
    assert operator.events("w") == ["download_started", "download_completed"]
    assert bench.leftovers() == []


async def test_the_timeout_ends_a_wait_and_a_resume_continues(
    bench: Bench, object_server: ObjectServer
) -> None:
    expected = await object_server.make("lost/slow", 24 * MiB)
    bench.link.freeze_after(12 * MiB)
    operator = bench.operator
    await operator.ask(
        "download", bucket="models", key="lost/slow", download_id="t", retry_count=0, timeout=6
    )
    before = await operator.progress("t", lambda d: d["progress"] > 0)
    bench.link.cut()
    error = await operator.event("download_error", "t")
    assert error["error_code"] == "timeout"
    assert "within its timeout of 6 s" in error["error"]
    failed = await operator.progress("t", lambda d: d["status"] == "failed")
    assert failed["bytes_done"] >= before["bytes_done"]
    bench.link.thaw()
    bench.link.restore()
    await operator.ask("resume", download_id="t")
    await operator.event("download_completed", "t")
    assert sha256(bench.downloads / "slow") == expected
    assert bench.link.bytes_down <= (24 + 1 + 5) * MiB
