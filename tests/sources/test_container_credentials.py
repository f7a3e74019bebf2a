"""Responses of a container credential provider, and of other servers in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from s3downloader.sources.s3 import container_credentials
from s3downloader.sources.s3 import credentials as credentials_module
from s3downloader.sources.s3.credentials import Credentials
from sandbox.nucleus.credentials import CredentialsEndpoint
from sandbox.processes import free_ports

from ..support import ManualClock
from .exchange import Answering, answer, environment, refusal

MINUTE = 60.0


@pytest.fixture(autouse=True)
def _credentials() -> None:
    """Remove all keys from the environment of this process."""


ACCESS = b'{"AccessKeyId": "a", "SecretAccessKey": "hush", "Token": "t", "Expiration": "%s"}'
ITS_ADDRESS = "is not the token exchange service"
WITHOUT_KEYS = "has no credentials now"


@pytest.mark.parametrize(
    ("answered", "says"),
    [
        (lambda: answer(200, b"null"), WITHOUT_KEYS),
        (lambda: answer(200, b'{"AccessKeyId": "", "SecretAccessKey": ""}'), WITHOUT_KEYS),
        (lambda: answer(500, b"Failed to get connection"), WITHOUT_KEYS),
        (lambda: answer(503, b"Failed to fetch SVCUID. Try again."), WITHOUT_KEYS),
        (lambda: answer(404, b"No such svcuid present."), "refuses the component, status 404"),
        (lambda: answer(403), "refuses the component, status 403"),
        (lambda: answer(400, b"SVCUID length must be exactly 16."), "refuses the component"),
        (
            lambda: answer(403, b"TES responded with status code: 403. Caching response. Denied"),
            "AWS gives this device no credentials, status 403",
        ),
        (lambda: answer(200, b"<html>Welcome</html>"), ITS_ADDRESS),
        (lambda: answer(200, b"[1]"), ITS_ADDRESS),
        (lambda: answer(200, b"\xff\xfe"), ITS_ADDRESS),
        (lambda: answer(200, b'{"AccessKeyId": "a"}'), ITS_ADDRESS),
        (lambda: answer(200, ACCESS % b"tomorrow"), ITS_ADDRESS),
        (lambda: answer(200, b" " * (1 << 17)), "is not the token exchange service"),
        (lambda: answer(302, b"", "Location: http://127.0.0.1:1/"), ITS_ADDRESS),
        (lambda: answer(200, ACCESS % b"2100-01-01T00:00:00Z")[:-9], "an incomplete response"),
        (lambda: b"SSH-2.0-OpenSSH_9.6\r\n", "did not respond"),
        (lambda: b"", "did not respond"),
    ],
)
async def test_an_answer_without_keys_says_what_it_is(
    answered: Callable[[], bytes], says: str, clock: ManualClock
) -> None:
    async with Answering(answered()) as service:
        error = await refusal(Credentials(service.environment, clock))
    assert says in error.message
    assert "hush" not in str(error.details)
    assert len(error.details["cause"]) <= 300


async def test_a_redirect_does_not_take_the_token_along(clock: ManualClock) -> None:
    async with Answering(answer(200, ACCESS % b"2100-01-01T00:00:00Z")) as other:
        moved = answer(307, b"", f"Location: {other.url}")
        async with Answering(moved) as service:
            await refusal(Credentials(service.environment, clock))
        assert other.requests == []


async def test_keys_in_an_error_are_told_to_nobody(clock: ManualClock) -> None:
    body = b'Bad TES response: {"credentials": {"accessKeyId": "a", "secretAccessKey": "hush"}}'
    async with Answering(answer(500, body)) as service:
        error = await refusal(Credentials(service.environment, clock))
    assert error.details["cause"] == "left out: it may contain keys"


async def test_a_service_that_waits_for_aws_has_half_a_minute(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        container_credentials._CONNECT_SECONDS
        < 30
        < container_credentials._RESPONSE_SECONDS
        < credentials_module._REQUEST_TIMEOUT
    )
    monkeypatch.setattr(container_credentials, "_RESPONSE_SECONDS", 0.05)
    async with Answering(None) as service:
        error = await refusal(Credentials(service.environment, clock))
    assert "did not respond in time" in error.message


async def test_an_answer_that_drips_is_given_up(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_module, "_REQUEST_TIMEOUT", 0.05)
    monkeypatch.setattr(
        container_credentials, "_RESPONSE_SECONDS", 1.0
    )  # for one byte, after which the next arrives
    async with Answering(None) as service:
        error = await refusal(Credentials(service.environment, clock))
    assert "arrived in time" in error.message


async def test_keys_that_do_not_say_when_they_end_are_renewed(clock: ManualClock) -> None:
    body = b'{"AccessKeyId": "%s", "SecretAccessKey": "s", "Token": "t"}'
    async with Answering(answer(200, body % b"first")) as service:
        credentials = Credentials(service.environment, clock)
        assert (await credentials.get()).access_key_id == "first"
        service.responses = [answer(200, body % b"second"), answer(500)]
        clock.time += 14 * MINUTE
        assert (await credentials.get()).access_key_id == "first"
        clock.time += 2 * MINUTE
        assert (await credentials.get()).access_key_id == "second"
        clock.time += 16 * MINUTE
        assert (await credentials.get()).access_key_id == "second", "they may be good still"


async def test_a_wrong_token(exchange: CredentialsEndpoint, clock: ManualClock) -> None:
    error = await refusal(
        Credentials({**environment(exchange), "AWS_CONTAINER_AUTHORIZATION_TOKEN": "x"}, clock)
    )
    assert "status 403" in error.message


async def test_a_token_in_a_file(
    exchange: CredentialsEndpoint, clock: ManualClock, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("svcuid\n")
    environ = environment(exchange)
    del environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(tmp_path / "token")
    assert (await Credentials(environ, clock).get()).access_key_id == "first"


async def test_a_token_that_changes_in_its_file_is_read_anew(
    exchange: CredentialsEndpoint, clock: ManualClock, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": exchange.uri,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file),
    }
    credentials = Credentials(environ, clock)
    assert "cannot be read" in (await refusal(credentials)).message
    file.write_bytes(b"\xff")
    assert "cannot be read" in (await refusal(credentials)).message
    file.write_text("two\nlines")
    assert "one line of ASCII" in (await refusal(credentials)).message
    file.write_text("svcuid")
    assert (await credentials.get()).access_key_id == "first"


async def test_a_service_that_is_not_there(clock: ManualClock) -> None:
    [port] = free_ports(1)
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/"}
    error = await refusal(Credentials(environ, clock))
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
    assert "must use https" in error.message


@pytest.mark.parametrize("uri", ["http://[::1/keys", "http://127.0.0.1:99999/keys"])
async def test_what_is_no_address_is_refused(uri: str, clock: ManualClock) -> None:
    error = await refusal(Credentials({"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri}, clock))
    assert "is not a valid URL" in error.message
