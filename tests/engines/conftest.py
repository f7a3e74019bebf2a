"""The s5cmd engine with a real server, directly or over a link."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.engines.s5cmd.engine import S5cmdEngine
from sandbox.link import Link
from sandbox.servers import ObjectServer

from .support import by_s5cmd, to_close


@pytest.fixture(autouse=True)
def _credentials(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, object_server.environment[name])


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    with to_close:
        yield


@pytest.fixture
def engine(object_server: ObjectServer) -> S5cmdEngine:
    return by_s5cmd(object_server.endpoint, SystemClock())


@pytest.fixture
def linked(link: Link) -> S5cmdEngine:
    """An engine whose requests go through `link`."""
    return by_s5cmd(link.endpoint, SystemClock())
