"""A nucleus for each test, which uses the broker of the session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.nucleus import Nucleus
from sandbox.servers import Broker


@pytest.fixture
async def nucleus(broker: Broker, tmp_path: Path) -> AsyncIterator[Nucleus]:
    async with Nucleus(
        thing_name="dev-01", directory=tmp_path, broker_port=broker.port
    ) as instance:
        yield instance


@pytest.fixture
async def lite(broker: Broker, tmp_path: Path) -> AsyncIterator[Nucleus]:
    async with Nucleus(
        thing_name="dev-01", directory=tmp_path, broker_port=broker.port, personality="lite"
    ) as instance:
        yield instance
