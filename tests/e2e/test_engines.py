"""Each engine downloads and verifies everything, and refuses what it cannot do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sandbox.servers import ApiServer, Broker, ObjectServer

from .conftest import Bench, make_bench

MiB = 1 << 20


@pytest.mark.parametrize("engine", ["auto", "ranged", "s5cmd"])
async def test_each_engine_brings_small_and_large_files_verified(
    bench: Bench, object_server: ObjectServer, engine: str
) -> None:
    rng = random.Random(engine)
    contents = {"large": rng.randbytes(9 * MiB), "deep/small": rng.randbytes(999), "empty": b""}
    for name, content in contents.items():
        await object_server.put(f"engines/{engine}/{name}", content)
    await bench.operator.ask(
        "download", bucket="models", key=f"engines/{engine}/", download_id="e", engine=engine
    )
    completed = await bench.operator.event("download_completed", "e")
    assert (completed["files"], completed["checksums_verified"]) == (3, 3)
    assert {name: (bench.downloads / name).read_bytes() for name in contents} == contents
    details = await bench.operator.ask("details", download_id="e")
    assert details["details"]["options"]["engine"] == engine
    by = {file["path"]: file.get("checksum", "").partition(":")[0] for file in details["files"]}
    assert by == {"large": "MD5", "deep/small": "MD5", "empty": "MD5"}
    assert bench.leftovers() == []


@pytest.mark.parametrize("engine", ["auto", "ranged"])
async def test_a_key_that_ranges_cannot_name_arrives(
    tmp_path: Path, broker: Broker, api_server: ApiServer, engine: str
) -> None:
    await api_server.put("engines//odd", b"odd")
    async with make_bench("mqtt", tmp_path, broker, api_server, {}) as bench:
        await bench.device.start()
        await bench.up()
        await bench.operator.ask(
            "download", bucket="models", key="engines//odd", download_id="o", engine=engine
        )
        completed = await bench.operator.event("download_completed", "o")
        assert completed["checksums_verified"] == 1
        assert (bench.downloads / "odd").read_bytes() == b"odd"


@pytest.mark.parametrize("engine", ["ranged", "s5cmd"])
async def test_acceleration_with_an_endpoint_of_ones_own_is_refused(
    bench: Bench, object_server: ObjectServer, engine: str
) -> None:
    await object_server.put("engines/accelerated", b"x")
    response = await bench.operator.ask(
        "download",
        bucket="models",
        key="engines/accelerated",
        download_id="x",
        engine=engine,
        s3_transfer_acceleration=True,
    )
    assert (response["success"], response["error_code"]) == (False, "invalid_field")
    assert "leave it out" in response["error"]
    assert (await bench.operator.ask("list"))["downloads"] == []
