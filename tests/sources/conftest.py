"""Sources in front of the real servers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from s3downloader.core.clock import Clock, SystemClock
from s3downloader.sources.http.transport import Transport
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from s3downloader.sources.s3.source import S3Source
from sandbox.nucleus.credentials import CredentialsEndpoint
from sandbox.servers import ApiServer, ObjectServer

from ..support import ManualClock
from .exchange import KEYS


@pytest.fixture(autouse=True)
def _credentials(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, object_server.environment[name])


_to_close = ExitStack()


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    with _to_close:
        yield


def source_at(
    endpoint: str, *, patience: float = 30.0, clock: Clock | None = None, **how: Any
) -> S3Source:
    clock = clock or SystemClock()
    transport = Transport(patience=patience)
    _to_close.callback(transport.close_idle)
    client = S3Client(endpoint, Credentials(os.environ, clock), transport)
    return S3Source(ObjectMetadata(client), clock, **how)


@pytest.fixture
def source(object_server: ObjectServer) -> S3Source:
    return source_at(object_server.endpoint)


@pytest.fixture
def odd_source(api_server: ApiServer) -> S3Source:
    """A source whose server keeps every key as it is."""
    return source_at(api_server.endpoint)


@pytest.fixture
async def exchange() -> AsyncIterator[CredentialsEndpoint]:
    """A token exchange service; its keys are good for an hour."""
    async with CredentialsEndpoint(KEYS, authorised=lambda token: token == "svcuid") as endpoint:
        yield endpoint


@pytest.fixture
def clock() -> ManualClock:
    """The time, until the test moves it."""
    return ManualClock(SystemClock().now())
