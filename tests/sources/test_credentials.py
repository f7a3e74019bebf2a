"""Keys from the environment, from a real token exchange service, and from boto3's chain."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from s3downloader.core.errors import DownloaderError
from s3downloader.sources.s3 import container_credentials
from s3downloader.sources.s3.credentials import Credentials, Keys
from sandbox.nucleus.credentials import CredentialsEndpoint

from ..support import ManualClock
from .exchange import KEYS, environment, refusal

MINUTE = 60.0


@pytest.fixture(autouse=True)
def _credentials() -> None:
    """Remove all keys from the environment of this process."""


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


async def test_a_program_s_environment_shares_the_request(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    await asyncio.gather(
        credentials.get(), credentials.environment(), credentials.environment(), credentials.get()
    )
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
    assert "status 500" in (await refusal(credentials)).message
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


async def test_keys_that_have_expired_already_are_refused(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    exchange.lifetime = timedelta(minutes=-1)
    error = await refusal(Credentials(environment(exchange), clock))
    assert "clock is right" in error.message
    assert "they were valid until 20" in error.details["cause"]


async def test_what_the_store_calls_expired_is_forgotten(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    await credentials.get()
    exchange.credentials["AWS_ACCESS_KEY_ID"] = "second"
    credentials.invalidate()
    assert (await credentials.get()).access_key_id == "second"


async def test_keys_that_were_replaced_meanwhile_are_kept(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    expired = await credentials.get()
    exchange.credentials["AWS_ACCESS_KEY_ID"] = "second"
    for _ in range(3):
        credentials.invalidate(expired)
        assert (await credentials.get()).access_key_id == "second"
    assert exchange.requests == 2


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


class MovingService:
    """A nucleus that returns the present address of its service, unless it is `silent`."""

    def __init__(self, exchange: CredentialsEndpoint) -> None:
        self.silent = False
        self.exchange = exchange

    async def __call__(self) -> str | None:
        return None if self.silent else self.exchange.uri


@pytest.fixture
def moving(exchange: CredentialsEndpoint) -> MovingService:
    return MovingService(exchange)


async def move(exchange: CredentialsEndpoint, key: str = "second") -> None:
    await exchange.crash()
    exchange.credentials["AWS_ACCESS_KEY_ID"] = key
    await exchange.start()


async def test_the_service_is_asked_where_the_nucleus_says_it_is_now(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock, moving)
    assert (await credentials.get()).access_key_id == "first"
    await move(exchange)
    assert (await credentials.get()).access_key_id == "first", "they are good for an hour"
    clock.time += 56 * MINUTE
    assert (await credentials.get()).access_key_id == "second"


async def test_an_environment_from_before_its_start_does_not_matter(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    environ = {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "svcuid"}
    credentials = Credentials(environ, clock, moving)
    assert (await credentials.get()).access_key_id == "first"
    assert (await credentials.environment()) == {
        **environ,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": exchange.uri,
    }


async def test_where_nobody_tells_the_environment_counts(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    moving.silent = True
    credentials = Credentials(environment(exchange), clock, moving)
    assert (await credentials.get()).access_key_id == "first"
    assert await credentials.environment() == environment(exchange)


@pytest.mark.parametrize(
    ("variable", "value", "url"),
    [
        ("FULL", "http://127.0.0.1:1/role", "http://127.0.0.1:1/role"),
        ("RELATIVE", "/v2/credentials/1", "http://169.254.170.2/v2/credentials/1"),
    ],
)
async def test_another_provider_of_ones_own_choice_stays(
    variable: str,
    value: str,
    url: str,
    moving: MovingService,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urls: list[str] = []

    def request_keys(url: str, _: object) -> Keys:
        urls.append(url)
        return Keys("chosen", "s")

    monkeypatch.setattr(container_credentials, "request_keys", request_keys)
    chosen = {f"AWS_CONTAINER_CREDENTIALS_{variable}_URI": value}
    credentials = Credentials(chosen, clock, moving)
    assert (await credentials.get()).access_key_id == "chosen"
    assert await credentials.environment() == chosen
    assert urls == [url]


async def test_keys_of_the_environment_need_no_service(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    given = {**KEYS, **environment(exchange)}
    assert await Credentials(given, clock, moving).environment() == given
    assert exchange.requests == 0


async def test_a_program_gets_the_address_that_answers_now(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock, moving)
    await credentials.get()
    for _ in range(3):
        environ = await credentials.environment()
        assert environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == exchange.uri
    assert exchange.requests == 1, "it has answered within the minute"
    await move(exchange)
    environ = await credentials.environment()
    assert environ == environment(exchange)
    assert exchange.requests == 2


async def test_a_program_is_not_sent_where_there_are_no_keys(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock, moving)
    await credentials.get()
    clock.time += 2 * MINUTE
    exchange.credentials = {}
    with pytest.raises(DownloaderError, match="has no credentials now"):
        await credentials.environment()
    assert (await credentials.get()).access_key_id == "first", "the daemon's own are good still"


async def gone(credentials: Credentials, clock: ManualClock, minutes: float) -> bool:
    """Request keys without success for so long; return whether the process was ended."""
    lost = asyncio.create_task(credentials.wait_lost())
    for _ in range(round(minutes * 6)):
        clock.time += 10
        with contextlib.suppress(DownloaderError):  # it has responded within the last minute
            await credentials.environment()
    await asyncio.sleep(0)
    ended = lost.done()
    lost.cancel()
    if ended:
        with pytest.raises(DownloaderError, match="must be started again"):
            await lost
    return ended


async def test_a_process_whose_address_is_of_the_past_ends_once(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    moving.silent = True
    exchange.lifetime = timedelta(days=1)
    stale = environment(exchange)
    starts_again = False
    first = Credentials(stale, clock, moving, lambda: starts_again)
    await first.get()
    await exchange.crash()
    assert not await gone(first, clock, 29), "not while nobody would start it again"
    starts_again = True
    assert await gone(first, clock, 2)
    again = Credentials(stale, clock, moving)
    assert not await gone(again, clock, 60), "the service has not answered this one"
    await exchange.start()
    third = Credentials(environment(exchange), clock, moving)
    clock.time += 60 * MINUTE
    await third.environment()
    await exchange.crash()
    assert not await gone(third, clock, 2.9), "two minutes after the minute of its last answer"
    assert await gone(third, clock, 0.4)


async def test_a_process_that_is_told_the_address_does_not_end(
    exchange: CredentialsEndpoint, moving: MovingService, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock, moving)
    await credentials.get()
    await exchange.crash()
    assert not await gone(credentials, clock, 60)


async def test_a_process_without_a_nucleus_does_not_end(
    exchange: CredentialsEndpoint, clock: ManualClock
) -> None:
    credentials = Credentials(environment(exchange), clock)
    await credentials.get()
    await exchange.crash()
    assert not await gone(credentials, clock, 60)


def test_secrets_do_not_show() -> None:
    assert "secret" not in repr(Keys("first", "secret", "token"))
    assert "token" not in repr(Keys("first", "secret", "token"))
