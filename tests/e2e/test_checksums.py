"""Files are compared with the object's checksum, that of the command, and a SHA256SUMS."""

from __future__ import annotations

import hashlib
import random

import pytest

from sandbox.servers import ObjectServer

from .conftest import Bench, sha256

MiB = 1 << 20
SLACK = 256 * 1024
"""The bytes of HTTP headers and listings."""


def noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("engine", ["ranged", "s5cmd"])
async def test_a_byte_flipped_on_the_wire_is_caught_and_fetched_again(
    bench: Bench, object_server: ObjectServer, engine: str
) -> None:
    content = noise(engine, 12 * MiB)
    await object_server.put(f"flipped/{engine}", content)
    bench.link.corrupt_after(5 * MiB)
    operator = bench.operator
    await operator.ask(
        "download", bucket="models", key=f"flipped/{engine}", download_id="f", engine=engine
    )
    completed = await operator.event("download_completed", "f")
    assert (bench.downloads / engine).read_bytes() == content
    assert (completed["bytes"], completed["checksums_verified"]) == (12 * MiB, 1)
    assert 24 * MiB < bench.link.bytes_down < 24 * MiB + SLACK, "was the byte flipped?"
    assert operator.events("f") == ["download_started", "download_completed"]
    assert bench.leftovers() == []


async def test_a_flipped_byte_of_a_large_object_is_caught_by_checksum(
    bench: Bench, object_server: ObjectServer
) -> None:
    expected = await object_server.make("flipped/large", 17 * MiB, "CRC64NVME")
    bench.link.corrupt_after(11 * MiB)
    await bench.operator.ask("download", bucket="models", key="flipped/large", download_id="f")
    completed = await bench.operator.event("download_completed", "f")
    assert sha256(bench.downloads / "large") == expected
    assert completed["checksums_verified"] == 1
    assert 34 * MiB < bench.link.bytes_down < 34 * MiB + SLACK
    details = await bench.operator.ask("details", download_id="f")
    assert details["files"][0]["checksum"].startswith("CRC64NVME:")


async def test_a_wrong_checksum_fails_and_keeps_the_files_that_match(
    bench: Bench, object_server: ObjectServer
) -> None:
    contents = {name: noise(name, 3 * MiB) for name in ("bad", "good")}
    for name, content in contents.items():
        await object_server.put(f"unfit/{name}", content)
    operator = bench.operator
    wrong = {"bad": "0" * 64, "good": digest(contents["good"])}
    await operator.ask("download", bucket="models", key="unfit/", download_id="u", sha256=wrong)
    error = await operator.event("download_error", "u")
    assert error["error_code"] == "checksum_mismatch"
    assert "s3://models/unfit/bad" in error["error"]
    staged = [path for path in bench.leftovers() if path.is_file() and path.suffix != ".json"]
    assert [path.name for path in staged] == ["good"]
    assert not (bench.downloads / "good").exists(), "a model that is not whole is not seen"
    listed = await operator.progress("u", lambda d: d["status"] == "failed")
    assert (listed["bytes_done"], listed["error_code"]) == (3 * MiB, "checksum_mismatch")
    assert bench.link.bytes_down < 9 * MiB + SLACK, "twice, and no more"

    await operator.ask("cancel", download_id="u")
    await operator.event("download_cancelled", "u")
    right = {name: digest(content) for name, content in contents.items()}
    await operator.ask("download", bucket="models", key="unfit/", download_id="v", sha256=right)
    completed = await operator.event("download_completed", "v")
    assert completed["checksums_verified"] == 2
    assert [sha256(bench.downloads / name) for name in right] == list(right.values())


async def test_sha256sums_beside_the_files_are_heeded(
    bench: Bench, object_server: ObjectServer
) -> None:
    contents = {f"weights-{n}": noise(f"sums{n}", 2 * MiB) for n in range(2)}
    for name, content in contents.items():
        await object_server.put(f"sums/{name}", content)
    lines = [f"{digest(content)}  {name}\n" for name, content in contents.items()]
    await object_server.put(
        "sums/SHA256SUMS", "".join(lines).replace(lines[1][:8], "0" * 8).encode()
    )
    operator = bench.operator
    await operator.ask("download", bucket="models", key="sums/", download_id="s")
    error = await operator.event("download_error", "s")
    assert error["error_code"] == "checksum_mismatch"
    assert "weights-1" in error["error"]

    await object_server.put("sums/SHA256SUMS", "".join(lines).encode())
    assert (await operator.ask("resume", download_id="s"))["success"]
    completed = await operator.event("download_completed", "s")
    assert completed["checksums_verified"] == 3
    assert {name: (bench.downloads / name).read_bytes() for name in contents} == contents
