"""The daemon ends while it downloads a large file: no byte is downloaded twice."""

from __future__ import annotations

import random
from typing import Any

from s3downloader.core.aio import timeout
from sandbox.servers import ObjectServer

from ..support import PATIENCE, eventually
from .conftest import Bench, sha256

MiB = 1 << 20
CONNECTIONS = 3


async def test_kill_9_at_any_moment_costs_next_to_nothing(
    bench: Bench, object_server: ObjectServer
) -> None:
    size = 48 * MiB
    expected = await object_server.make("interrupted/killed", size)
    link, device, operator = bench.link, bench.device, bench.operator
    link.rate = 24 * MiB
    before = link.bytes_down
    await operator.ask(
        "download",
        bucket="models",
        key="interrupted/killed",
        download_id="k",
        concurrency=CONNECTIONS,
    )
    held = 0
    moments = sorted(random.Random(5).sample(range(size // 20, size - size // 20), 3))
    for moment in moments:
        async with timeout(PATIENCE):
            await link.carried(before + moment)
        held += link.bytes_unread  # bytes in socket buffers
        await device.kill()
        await device.start()
    link.rate = None
    await operator.event("download_completed", "k")
    assert sha256(bench.downloads / "killed") == expected
    assert operator.events("k") == ["download_started", "download_completed"]
    assert bench.leftovers() == []
    chunks = len(moments) * CONNECTIONS * MiB
    assert link.bytes_down - before <= 1.02 * size + chunks + held


async def test_a_restart_goes_on_inside_the_file_with_true_progress(
    greengrass: Bench, object_server: ObjectServer
) -> None:
    """This happens in an update of the component."""
    size = 32 * MiB
    expected = await object_server.make("interrupted/updated", size)
    link, device, operator = greengrass.link, greengrass.device, greengrass.operator
    link.freeze_after(20 * MiB)
    await operator.ask("download", bucket="models", key="interrupted/updated", download_id="u")
    await operator.progress("u", lambda d: d["progress"] > 50)
    assert await device.terminate() == 0
    before = greengrass.statuses_of("u")
    link.rate = 6 * MiB
    link.thaw()
    link.freeze_after(8 * MiB)
    fetched = link.bytes_down
    await device.start()

    def since() -> list[dict[str, Any]]:
        return greengrass.statuses_of("u")[len(before) :]

    await eventually(lambda: any(d["bytes_per_second"] for d in since()))
    after = since()
    assert after[0]["bytes_done"] >= before[-1]["bytes_done"] > size // 2
    assert [d["bytes_done"] for d in after] == sorted(d["bytes_done"] for d in after)
    rates = [d["bytes_per_second"] for d in after]
    assert 0 < max(rates) < 3 * link.rate, "what was there already did not arrive just now"
    link.rate = None
    link.thaw()
    await operator.event("download_completed", "u")
    assert sha256(greengrass.downloads / "updated") == expected
    assert operator.events("u") == ["download_started", "download_completed"]
    assert link.bytes_down - fetched <= size - before[-1]["bytes_done"] + 5 * MiB // 2
