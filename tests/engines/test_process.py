"""The process of the real s5cmd is started and ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.engines.s5cmd.program import S5cmd
from s3downloader.sources.s3.container_credentials import unavailable
from sandbox.link import Link
from sandbox.servers import ObjectServer
from tests.support import eventually, is_running

from .support import BUCKET, children


async def test_leaving_ends_the_process_whatever_it_does(
    link: Link, object_server: ObjectServer
) -> None:
    tool = S5cmd(endpoint_url=link.endpoint)
    before = children()
    link.freeze()
    async with tool.run("run", retry_count=0) as process:
        [pid] = children() - before
        await process.write("head", f"s3://{BUCKET}")
        await eventually(lambda: link.connections)
    assert not is_running(pid)
    assert children() <= before, "not even a zombie is left"


async def test_output_that_nobody_reads_does_not_hold_the_end_up(
    object_server: ObjectServer,
) -> None:
    tool = S5cmd(endpoint_url=object_server.endpoint)
    async with tool.run("run", retry_count=0, numworkers=16) as process:
        for _ in range(500):
            await process.write("complain " + 1000 * "loudly")
        assert await process.read()


async def test_writing_after_the_end_does_nothing(object_server: ObjectServer) -> None:
    async with S5cmd(endpoint_url=object_server.endpoint).run("run", retry_count=0) as process:
        process.kill()
        assert await process.read() == []
        assert "SIGKILL" in await process.wait()
        await process.write("version")


async def test_a_region_that_cannot_be_looked_up_is_no_fault(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    tool = S5cmd(endpoint_url=object_server.endpoint)
    async with tool.run("head", f"s3://{BUCKET}/key", retry_count=0) as process:
        [line] = await process.read()
    assert line.error.startswith("Forbidden")


async def test_acceleration_uses_the_endpoint_of_aws(tmp_path: Path) -> None:
    binary = tmp_path / "s5cmd"
    binary.write_text('#!/bin/sh\necho "$@"\n')
    binary.chmod(0o755)
    async with S5cmd(binary=binary).run("version", retry_count=3, accelerate=True) as process:
        [line] = await process.read()
    assert "--endpoint-url=https://s3-accelerate.amazonaws.com --retry-count=3" in line.error


async def test_each_command_has_the_environment_of_its_start(tmp_path: Path) -> None:
    binary = tmp_path / "s5cmd"
    binary.write_text('#!/bin/sh\necho "at $AWS_CONTAINER_CREDENTIALS_FULL_URI"\n')
    binary.chmod(0o755)
    ports = iter("12")

    async def environment() -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "AWS_CONTAINER_CREDENTIALS_FULL_URI": next(ports)}

    tool = S5cmd(binary=binary, environment=environment)
    for port in "12":
        async with tool.run("version", retry_count=0) as process:
            [line] = await process.read()
        assert line.error == f"at {port}"


async def test_nothing_is_started_without_credentials(tmp_path: Path) -> None:
    binary = tmp_path / "s5cmd"
    binary.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    binary.chmod(0o755)

    async def environment() -> dict[str, str]:
        raise unavailable("there are none; get some", "")

    with pytest.raises(DownloaderError, match="get some"):
        async with S5cmd(binary=binary, environment=environment).run("version", retry_count=0):
            pass
    assert not (tmp_path / "started").exists()


async def test_a_missing_binary_is_told() -> None:
    with pytest.raises(DownloaderError, match="cannot be started") as caught:
        async with S5cmd(binary=Path("/nowhere/s5cmd")).run("version", retry_count=0):
            pass
    assert caught.value.code is ErrorCode.ENGINE_FAILED
