"""Servers that all tests of a process share, and a clean environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from sandbox.link import Link
from sandbox.servers import ApiServer, Broker, ObjectServer


@pytest.fixture(scope="session", autouse=True)
def _no_aws_of_the_developer() -> Iterator[None]:
    """Remove all AWS settings of the developer from the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="session")
async def object_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ObjectServer]:
    """SeaweedFS: the S3 server for everything but unusual keys."""
    async with ObjectServer(tmp_path_factory.mktemp("object-server")) as server:
        yield server


@pytest.fixture
async def link(object_server: ObjectServer) -> AsyncIterator[Link]:
    """A link to `object_server`, which can be slowed, cut and frozen."""
    async with Link(object_server.port) as link:
        yield link


@pytest.fixture(scope="session")
async def api_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    """moto: the S3 server for unusual keys, checksums and refusals."""
    async with ApiServer(tmp_path_factory.mktemp("api-server")) as server:
        yield server


@pytest.fixture(scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """mosquitto: the MQTT broker."""
    async with Broker(tmp_path_factory.mktemp("broker")) as server:
        yield server
