"""Sources on the real servers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from s3downloader.core.clock import Clock, SystemClock
from s3downloader.core.objects import ObjectRef, SourceRef
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


class Buckets:
    """Opens sources on prefixes in the buckets of a server."""

    def __init__(self, open_: Callable[[SourceRef], S3Source]) -> None:
        self._open = open_

    def __call__(self, bucket: str, prefix: str = "") -> S3Source:
        return self._open(SourceRef("s3", bucket, prefix))


def buckets_at(
    endpoint: str, *, time_limit: float = 30.0, clock: Clock | None = None, **how: Any
) -> Buckets:
    clock = clock or SystemClock()
    transport = Transport(time_limit=time_limit)
    _to_close.callback(transport.close_idle)
    client = S3Client(endpoint, Credentials(os.environ, clock), transport)
    return Buckets(partial(S3Source, ObjectMetadata(client), clock, **how))


def source_at(endpoint: str, prefix: str = "", **how: Any) -> S3Source:
    return buckets_at(endpoint, **how)("models", prefix)


def described(found: ObjectRef) -> tuple[str, int, str]:
    """Return the name, size and validator of an object."""
    return found.name, found.size, found.validator


@pytest.fixture
def buckets(object_server: ObjectServer) -> Buckets:
    return buckets_at(object_server.endpoint)


@pytest.fixture
def odd_buckets(api_server: ApiServer) -> Buckets:
    """The buckets of moto, which keeps every key unchanged."""
    return buckets_at(api_server.endpoint)


@pytest.fixture
async def exchange() -> AsyncIterator[CredentialsEndpoint]:
    """A token exchange service whose keys are valid for an hour."""
    async with CredentialsEndpoint(KEYS, authorised=lambda token: token == "svcuid") as endpoint:
        yield endpoint


@pytest.fixture
def clock() -> ManualClock:
    """A clock with the present time, which stands still until the test moves it."""
    return ManualClock(SystemClock().now())
