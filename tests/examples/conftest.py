"""The downloader on Greengrass, beside which the example components run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.servers import Broker, ObjectServer

from ..e2e.conftest import Bench, make_bench


@pytest.fixture
async def greengrass(
    tmp_path: Path, broker: Broker, object_server: ObjectServer
) -> AsyncIterator[Bench]:
    """A device on Greengrass whose daemon has started."""
    async with make_bench("greengrass", tmp_path, broker, object_server, {}) as bench:
        await bench.device.start()
        await bench.up()
        yield bench
