"""The token exchange service, used by botocore's own provider."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.session import Session

from sandbox.nucleus import Nucleus
from sandbox.servers import Broker

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "session",
}


@pytest.fixture
async def nucleus(broker: Broker, tmp_path: Path) -> AsyncIterator[Nucleus]:
    async with Nucleus(
        thing_name="dev-01", directory=tmp_path, broker_port=broker.port, credentials=CREDENTIALS
    ) as nucleus:
        nucleus.register("a")
        yield nucleus


async def test_a_component_gets_the_credentials_of_the_sandbox(
    nucleus: Nucleus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in nucleus.component_environment("a").items():
        monkeypatch.setenv(name, value)
    credentials = await asyncio.to_thread(Session().get_credentials)
    assert credentials is not None
    frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
    assert (frozen.access_key, frozen.secret_key, frozen.token) == ("key", "secret", "session")
    assert nucleus.credentials.requests == 1


async def test_they_expire_and_are_asked_for_again(
    nucleus: Nucleus, monkeypatch: pytest.MonkeyPatch
) -> None:
    nucleus.credentials.lifetime = timedelta(minutes=1)  # botocore renews keys that expire soon
    for name, value in nucleus.component_environment("a").items():
        monkeypatch.setenv(name, value)
    credentials = await asyncio.to_thread(Session().get_credentials)
    assert credentials is not None
    nucleus.credentials.credentials["AWS_ACCESS_KEY_ID"] = "another"
    frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
    assert frozen.access_key == "another"


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [({}, "", 403), ({"Authorization": "wrong"}, "", 403), ({}, "other", 404)],
)
async def test_others_get_nothing(
    nucleus: Nucleus, headers: dict[str, str], path: str, status: int
) -> None:
    assert await get(nucleus.credentials.uri + path, headers) == (status, b"")


async def test_java_without_credentials_answers_with_status_500(nucleus: Nucleus) -> None:
    nucleus.credentials.credentials = {}
    assert await get(nucleus.credentials.uri, token_of(nucleus)) == (
        500,
        b"Failed to get connection",
    )


async def test_lite_answers_null_without_keys_and_404_to_strangers(lite: Nucleus) -> None:
    lite.register("a")
    assert await get(lite.credentials.uri, token_of(lite)) == (200, b"null")
    assert await get(lite.credentials.uri, {"Authorization": "wrong"}) == (404, b"")


def token_of(nucleus: Nucleus) -> dict[str, str]:
    token = nucleus.component_environment("a")["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    return {"Authorization": token}


async def get(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Return the status and the body of the response to GET."""
    where = urlsplit(url)

    def ask() -> tuple[int, bytes]:
        with contextlib.closing(HTTPConnection(where.netloc, timeout=10)) as connection:
            connection.request("GET", where.path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()

    return await asyncio.to_thread(ask)
