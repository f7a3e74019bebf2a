"""What obstore says of real failures, and what that comes to mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
import pytest
from obstore.store import S3Store

from s3downloader.errors import ErrorCode
from s3downloader.faults import explain
from sandbox.link import Link
from sandbox.processes import free_ports
from sandbox.servers import ObjectServer
from sandbox.servers.s3 import S3Server

from ..support import eventually

if TYPE_CHECKING:
    from obstore import GetOptions

BUCKET = "models"

_STATUS = """\
Generic S3 error: Error performing GET http://store:1/b/NoSuchKey/k in 8.941971ms, after 2 \
retries, max_retries: 2, retry_timeout: 2s  - Server returned non-2xx status code: {status}: \
{body}

Debug source:
Generic {{
    store: "S3",
    source: RetryError(
        RetryErrorImpl {{
            method: GET,
            uri: Some(
                http://store:1/b/NoSuchKey/k,
            ),
            retries: 2,
            max_retries: 2,
            elapsed: 8.941971ms,
            retry_timeout: 2s,
            inner: Status {{
                status: {number},
                body: Some(
                    "{body}",
                ),
            }},
        }},
    ),
}}"""
_HTTP = """\
Generic S3 error: {what}

Debug source:
Generic {{
    store: "S3",
    source: RetryError(
        RetryErrorImpl {{
            method: GET,
            uri: Some(
                http://store:1/b/NoSuchKey/k,
            ),
            retries: 0,
            max_retries: 0,
            elapsed: 1.080625ms,
            retry_timeout: 2s,
            inner: Http(
                HttpError {{
                    kind: {kind},
                    source: reqwest::Error {{
                        kind: Request,
                        source: {source},
                    }},
                }},
            ),
        }},
    ),
}}"""
_SENDING = (
    "Error performing GET http://store:1/AccessDenied in 1ms - HTTP error: error sending request"
)
_NOT_PARTIAL = """\
Generic S3 error: Received non-partial response when range requested

Debug source:
Generic {
    store: "S3",
    source: NotPartial,
}"""
_DNS = """hyper_util::client::legacy::Error(
    Connect,
    ConnectError(
        "dns error",
        Custom {
            kind: Uncategorized,
            error: "failed to lookup address information: Name or service not known",
        },
    ),
)"""


def status(status: str, code: str, message: str = "It says so.") -> str:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else ""
    return _STATUS.format(status=status, number=status[:3], body=body)


def http(kind: str, source: str, what: str = _SENDING) -> str:
    return _HTTP.format(kind=kind, source=source, what=what)


WORDS = [
    # As obstore 0.12.1 says what the sandbox's servers never do.
    (status("503 Service Unavailable", "SlowDown"), "timeout", "SlowDown: It says so."),
    (status("500 Internal Server Error", "InternalError"), "timeout", "InternalError"),
    (status("429 Too Many Requests", ""), "timeout", "Too Many Requests:  status code: 429"),
    (status("400 Bad Request", "ExpiredToken"), "credentials_unavailable", "ExpiredToken"),
    (status("403 Forbidden", "RequestTimeTooSkewed"), "credentials_unavailable", "Skewed"),
    (status("403 Forbidden", "AccessDenied"), "access_denied", "AccessDenied"),
    (status("403 Forbidden", ""), "access_denied", "Forbidden:  status code: 403"),
    (status("403 Forbidden", "InvalidObjectState"), "access_denied", "InvalidObjectState"),
    (status("400 Bad Request", "AuthorizationHeaderMalformed"), "bucket_not_found", "Malformed"),
    (status("404 Not Found", ""), "object_not_found", "Not Found:  status code: 404"),
    (
        http("Unknown", "x", "Received redirect without LOCATION, this normally indicates an"),
        "bucket_not_found",
        "redirect without LOCATION",
    ),
    (
        _NOT_PARTIAL,
        "engine_failed",
        "non-partial response",
    ),
    (http("Connect", _DNS), "network_unreachable", "Name or service not known"),
    (http("Timeout", "TimedOut"), "timeout", "error sending request HttpError { kind: Timeout"),
    (
        http("Timeout", "TimedOut", "HTTP error: request or response body error"),
        "timeout",
        "request or response body error HttpError { kind: Timeout",
    ),
    (
        http("Connect", "Custom { error: InvalidCertificate(UnknownIssuer) }"),
        "network_unreachable",
        "InvalidCertificate",
    ),
]


@pytest.mark.parametrize(("text", "code", "cause"), WORDS, ids=[words[2] for words in WORDS])
def test_words_are_understood(text: str, code: str, cause: str) -> None:
    error = explain(text, "s3://b/NoSuchKey/k")
    assert error.code is ErrorCode(code)
    assert cause in error.details["cause"]
    assert "\n" not in error.details["cause"]
    assert ";" in error.message, "a sentence says what to do"


@pytest.mark.parametrize(("text", "code", "cause"), WORDS, ids=[words[2] for words in WORDS])
def test_the_first_lines_alone_do_not_mislead(text: str, code: str, cause: str) -> None:
    error = explain(text.partition("Debug source")[0], "s3://b/NoSuchKey/k")
    assert error.code is ErrorCode(code) or error.code is ErrorCode.NETWORK_UNREACHABLE


def connect(endpoint: str, bucket: str = BUCKET, secret: str | None = None) -> S3Store:
    return S3Store(
        bucket,
        endpoint=endpoint,
        access_key_id="SANDBOXACCESSKEY",
        secret_access_key=secret or "sandbox-secret-key",
        region="us-east-1",
        client_options={"allow_http": True, "timeout": timedelta(seconds=30)},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=30)},
    )


async def fetch(store: S3Store, key: str, end: int = 3, if_match: str | None = None) -> bytes:
    options: GetOptions = {"range": (0, end)}
    if if_match:
        options["if_match"] = if_match
    answer = await obstore.get_async(store, key, options=options)
    return bytes(await answer.bytes_async())


async def explained(fetching: Awaitable[bytes], key: str = "timeout") -> tuple[ErrorCode, str]:
    with pytest.raises(Exception, match=r"Debug source") as caught:
        await fetching
    error = explain(str(caught.value), f"s3://{BUCKET}/{key}")
    return error.code, error.details["cause"]


@pytest.fixture(params=["api_server", "object_server"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Both servers, one after the other, with an object whose name is the word of a failure."""
    server: S3Server = request.getfixturevalue(request.param)
    for key, data in {"timeout": b"1234", "empty": b""}.items():
        server.client().put_object(Bucket=BUCKET, Key=key, Body=data)
    return server


REFUSED: dict[str, tuple[Callable[[str], Awaitable[bytes]], str]] = {
    "absent": (lambda to: fetch(connect(to), "absent"), "object_not_found"),
    "no bucket": (lambda to: fetch(connect(to, "no-such"), "timeout"), "bucket_not_found"),
    "changed": (lambda to: fetch(connect(to), "timeout", if_match='"other"'), "source_changed"),
    "shorter": (lambda to: fetch(connect(to), "empty"), "size_mismatch"),
}


@pytest.mark.parametrize(("fetching", "code"), REFUSED.values(), ids=REFUSED)
async def test_what_the_store_refuses(
    server: S3Server, fetching: Callable[[str], Awaitable[bytes]], code: str
) -> None:
    assert (await explained(fetching(server.endpoint)))[0] is ErrorCode(code)


async def test_a_wrong_secret(object_server: ObjectServer) -> None:
    fetching = fetch(connect(object_server.endpoint, secret="wrong"), "timeout")
    code, cause = await explained(fetching)
    assert code is ErrorCode.ACCESS_DENIED
    assert cause.startswith("SignatureDoesNotMatch")


async def test_a_closed_port() -> None:
    [port] = free_ports(1)
    code, cause = await explained(fetch(connect(f"http://127.0.0.1:{port}"), "timeout"))
    assert code is ErrorCode.NETWORK_UNREACHABLE
    assert "Connection refused" in cause


async def test_a_connection_that_is_cut(link: Link, object_server: ObjectServer) -> None:
    size = 4 << 20
    await object_server.put("timeout", bytes(size))
    link.rate = float(size)
    task = asyncio.create_task(fetch(connect(link.endpoint), "timeout", size))
    await eventually(lambda: link.bytes_down > size // 8)
    link.cut()
    code, cause = await explained(task)
    assert code is ErrorCode.NETWORK_UNREACHABLE
    assert "Connection reset" in cause or "Incomplete" in cause
