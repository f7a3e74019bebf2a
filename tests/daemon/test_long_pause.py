"""Everything that a download needs fails and comes back during a pause of ten minutes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from s3downloader.core.errors import TRANSIENT, ErrorCode
from s3downloader.core.records import State
from s3downloader.engines.auto import AutoEngine
from s3downloader.engines.ranged.engine import RangedEngine
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from s3downloader.engines.s5cmd.program import S5cmd
from s3downloader.sources.registry import sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from sandbox.link import Link
from sandbox.nucleus.credentials import CredentialsEndpoint
from sandbox.servers import ObjectServer

from ..support import JumpingClock
from .harness import Harness

MiB = 1 << 20
SIZE = 48 * MiB
CONNECTIONS = 4
LARGEST_CHUNK = 2 * MiB
PAUSE = 600.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ObjectServer]:
    """An object server that the test may stop."""
    async with ObjectServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
async def way(server: ObjectServer) -> AsyncIterator[Link]:
    """A link to `server`, which can be slowed and cut."""
    async with Link(server.port) as link:
        yield link


class Exchange:
    """The token exchange service, and its clients: each has its own token."""

    def __init__(self, server: ObjectServer) -> None:
        self.tokens: list[str] = []
        self.service = CredentialsEndpoint(
            server.environment, authorised=self._note, lifetime=timedelta(seconds=PAUSE - 60)
        )

    def environment(self, token: str) -> dict[str, str]:
        """Return the environment variables for the client with that token."""
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.service.uri,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
            "AWS_REGION": "us-east-1",
        }

    def _note(self, token: str) -> bool:
        self.tokens.append(token)
        return True


@pytest.fixture
async def exchange(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Exchange]:
    """The service from which the daemon and s5cmd get their credentials."""
    exchange = Exchange(server)
    async with exchange.service:
        for name, value in exchange.environment("s5cmd").items():
            monkeypatch.setenv(name, value)
        yield exchange


@pytest.fixture
def jumping_clock(harness: Harness, way: Link, exchange: Exchange) -> Iterator[JumpingClock]:
    """The clock of `harness`, whose engine and source are the real ones, made as in main.py."""
    clock = harness.clock = JumpingClock()
    credentials = Credentials({**os.environ, **exchange.environment("daemon")}, clock)
    client = S3Client(way.endpoint, credentials)
    sources = sources_over(ObjectMetadata(client), clock)
    tool = S5cmd(endpoint_url=way.endpoint)
    ranged = RangedEngine(client=client, sources=sources, clock=clock)
    engine = AutoEngine(s5cmd=S5cmdEngine(tool, clock, sources), ranged=ranged)
    harness.real = (sources, engine)
    harness.transient = TRANSIENT | {ErrorCode.CREDENTIALS_UNAVAILABLE}
    harness.configuration["ProcessInterval"] = 0.2
    yield clock
    client.transport.close_idle()


async def test_after_a_long_pause_only_what_is_missing_is_fetched(
    harness: Harness,
    jumping_clock: JumpingClock,
    server: ObjectServer,
    way: Link,
    exchange: Exchange,
) -> None:
    expected = await server.make("paused", SIZE)
    way.freeze_after(28 * MiB)
    async with harness.running():
        await harness.download("paused", "p", concurrency=CONNECTIONS, part_size=8 * MiB)
        await harness.until(lambda: harness.status_of("p").get("progress", 0) > 40)
        await harness.ask("pause", download_id="p")
        await harness.becomes(State.PAUSED, "p")
        paused_at = harness.status_of("p")["bytes_done"]

        way.cut()
        await server.stop()
        jumping_clock.jump(PAUSE)  # the credentials have expired
        exchange.service.lifetime += timedelta(seconds=PAUSE)
        count = exchange.tokens.count("daemon")
        await harness.ask("resume", download_id="p")
        await harness.becomes(State.WAITING, "p")
        assert harness.status_of("p")["error_code"] == "network_unreachable"
        assert harness.status_of("p")["bytes_done"] == paused_at
        await server.start()
        way.thaw()
        way.restore()
        jumping_clock.jump(60)  # the longest wait
        await harness.completed("p")
    assert exchange.tokens.count("daemon") > count
    assert harness.events("p") == [
        "download_started",
        "download_paused",
        "download_resumed",
        "download_completed",
    ]
    content = (harness.downloads / "paused").read_bytes()
    assert hashlib.sha256(content).hexdigest() == expected
    assert way.bytes_down <= SIZE + CONNECTIONS * LARGEST_CHUNK
    assert harness.files() == {"paused"}
