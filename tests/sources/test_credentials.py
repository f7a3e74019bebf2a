"""Keys from the environment, from a real token exchange service, and from boto3's chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from s3downloader.clock import SystemClock
from s3downloader.credentials import Credentials, Keys
from s3downloader.errors import DownloaderError, ErrorCode
from sandbox.nucleus.credentials import CredentialsEndpoint
from sandbox.processes import free_ports

from ..support import ManualClock

KEYS = {"AWS_ACCESS_KEY_ID": "first", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "t"}
MINUTE = 60.0


@pytest.fixture(autouse=True)
def _credentials() -> None:
    """Nothing is in this process's own environment."""


@pytest.fixture
async def exchange() -> AsyncIterator[CredentialsEndpoint]:
    """A token exchange service; its keys are good for an hour."""
    async with CredentialsEndpoint(KEYS, authorised=lambda token: token == "svcuid") as endpoint:
        yield endpoint


def environment(exchange: CredentialsEndpoint) -> dict[str, str]:
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": exchange.uri,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "svcuid",
    }


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now())


async def refusal(credentials: Credentials) -> DownloaderError:
    with pytest.raises(DownloaderError) as caught:
        await credentials.get()
    assert caught.value.code is ErrorCode.CREDENTIALS_UNAVAILABLE
    assert ";" in caught.value.message or "must be" in caught.value.message
    return caught.value


async def test_the_environment_comes_first(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials({**environment(exchange), **KEYS}, clock)
    assert await credentials.get() == Keys("first", "secret", "t")
    assert exchange.requests == 0


async def test_keys_are_exchanged_for_the_token(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    keys = await Credentials(environment(exchange), clock).get()
    assert (keys.access_key_id, keys.secret_access_key, keys.token) == ("first", "secret", "t")
    assert keys.expires_at is not None
    left = keys.expires_at - datetime.now(timezone.utc)
    assert timedelta(minutes=50) < left <= timedelta(hours=1)


async def test_callers_at_one_time_share_one_request(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    keys = await asyncio.gather(*(credentials.get() for _ in range(50)))
    assert len(set(map(id, keys))) == 1
    await credentials.get()
    assert exchange.requests == 1


async def test_one_caller_that_leaves_takes_nothing_from_the_others(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    first, second = asyncio.create_task(credentials.get()), asyncio.create_task(credentials.get())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).access_key_id == "first"
    assert exchange.requests == 1


async def test_keys_are_renewed_five_minutes_before_they_expire(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    await credentials.get()
    exchange.credentials["AWS_ACCESS_KEY_ID"] = "second"
    clock.time += 54 * MINUTE
    assert (await credentials.get()).access_key_id == "first"
    clock.time += 2 * MINUTE
    assert (await credentials.get()).access_key_id == "second"


async def test_keys_that_cannot_be_renewed_yet_serve_to_their_end(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    await credentials.get()
    kept, exchange.credentials = exchange.credentials, {}
    clock.time += 57 * MINUTE
    assert (await credentials.get()).access_key_id == "first"
    clock.time += 4 * MINUTE
    assert "403" in (await refusal(credentials)).message
    exchange.credentials = {**kept, "AWS_ACCESS_KEY_ID": "second"}
    exchange.lifetime = timedelta(hours=3)
    assert (await credentials.get()).access_key_id == "second"


async def test_short_lived_keys_are_not_asked_for_on_every_request(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    exchange.lifetime = timedelta(minutes=2)
    credentials = Credentials(environment(exchange), clock)
    for _ in range(20):
        await credentials.get()
    assert exchange.requests == 1
    clock.time += 11
    await credentials.get()
    assert exchange.requests == 2


async def test_what_the_store_calls_expired_is_forgotten(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    await credentials.get()
    exchange.credentials["AWS_ACCESS_KEY_ID"] = "second"
    credentials.forget()
    assert (await credentials.get()).access_key_id == "second"


async def test_keys_that_were_replaced_meanwhile_are_kept(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    expired = await credentials.get()
    exchange.credentials["AWS_ACCESS_KEY_ID"] = "second"
    for _ in range(3):
        credentials.forget(expired)
        assert (await credentials.get()).access_key_id == "second"
    assert exchange.requests == 2


async def test_a_wrong_token(exchange: CredentialsEndpoint, clock: ManualClock) -> None:
    error = await refusal(
        Credentials({**environment(exchange), "AWS_CONTAINER_AUTHORIZATION_TOKEN": "x"}, clock)
    )
    assert "status 403" in error.message


async def test_a_token_in_a_file(
    exchange: CredentialsEndpoint, clock: ManualClock, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("svcuid\n")
    told = environment(exchange)
    del told["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    told["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(tmp_path / "token")
    assert (await Credentials(told, clock).get()).access_key_id == "first"


async def test_a_service_that_is_not_there(clock: ManualClock) -> None:
    [port] = free_ports(1)
    told = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/"}
    error = await refusal(Credentials(told, clock))
    assert "refused" in error.details["cause"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://example.com/keys",
        "http://127.0.0.1.example.com/keys",
        "http://localhost@example.com/keys",
        "ftp://127.0.0.1/keys",
        "http:///keys",
    ],
)
async def test_keys_never_come_in_the_clear_over_a_network(uri: str, clock: ManualClock) -> None:
    error = await refusal(Credentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri}, clock))
    assert "must be https" in error.message


async def test_nothing_is_configured(clock: ManualClock) -> None:
    assert "there are no credentials" in (await refusal(Credentials({}, clock))).message


async def test_what_boto3_finds(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-west-1\naws_access_key_id = filed\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    credentials = Credentials({}, clock)
    assert credentials.region == "us-east-1"
    assert await credentials.get() == Keys("filed", "s")
    assert credentials.region == "eu-west-1"


def test_secrets_do_not_show() -> None:
    assert "secret" not in repr(Keys("first", "secret", "token"))
    assert "token" not in repr(Keys("first", "secret", "token"))
