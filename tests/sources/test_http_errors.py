"""Exceptions of Python's HTTP client get the right codes."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from http.client import BadStatusLine, IncompleteRead, LineTooLong, RemoteDisconnected

import pytest

from s3downloader.core.errors import ErrorCode
from s3downloader.sources.http.errors import connection_error


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (system(errno.ECONNREFUSED), ErrorCode.NETWORK_UNREACHABLE),
        (system(errno.EHOSTUNREACH), ErrorCode.NETWORK_UNREACHABLE),
        (system(errno.ENETUNREACH), ErrorCode.NETWORK_UNREACHABLE),
        (system(errno.EPIPE), ErrorCode.NETWORK_UNREACHABLE),
        (system(errno.EPERM), ErrorCode.NETWORK_UNREACHABLE),  # as with a firewall on the device
        (system(errno.EADDRNOTAVAIL), ErrorCode.NETWORK_UNREACHABLE),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "network_unreachable"),
        (OSError("Tunnel connection failed: 407 Proxy Authentication"), "network_unreachable"),
        (RemoteDisconnected("Remote end closed connection"), ErrorCode.NETWORK_UNREACHABLE),
        (IncompleteRead(b"", 90), ErrorCode.NETWORK_UNREACHABLE),
        (BadStatusLine("garbage"), ErrorCode.NETWORK_UNREACHABLE),
        (LineTooLong("header line"), ErrorCode.NETWORK_UNREACHABLE),
        (ValueError("invalid literal for int() with base 16"), ErrorCode.NETWORK_UNREACHABLE),
        (ssl.SSLCertVerificationError(1, "self-signed"), ErrorCode.NETWORK_UNREACHABLE),
        (ssl.SSLError(1, "wrong version number"), ErrorCode.NETWORK_UNREACHABLE),
        (TimeoutError("timed out"), ErrorCode.TIMEOUT),
        (system(errno.ETIMEDOUT), ErrorCode.TIMEOUT),
        (system(errno.EMFILE), ErrorCode.RESOURCES_EXHAUSTED),
        (system(errno.ENOBUFS), ErrorCode.RESOURCES_EXHAUSTED),
    ],
    ids=repr,
)
def test_a_failed_request_has_a_code_by_its_kind(error: Exception, code: str) -> None:
    told = connection_error(error, "s3://b/k")
    assert told.code is ErrorCode(code)
    assert told.details == {"cause": f"{type(error).__name__}: {error}"}
    assert "s3://b/k" in told.message
    assert ";" in told.message, "a sentence says what to do"


def test_the_words_of_an_exception_mean_nothing() -> None:
    error = ConnectionResetError("no space left on device, AccessDenied, status code: 404")
    assert connection_error(error, "s").code is ErrorCode.NETWORK_UNREACHABLE


def test_a_certificate_that_is_not_trusted_has_its_own_advice() -> None:
    assert "AWS_CA_BUNDLE" in connection_error(ssl.SSLCertVerificationError(1, "old"), "s").message


def test_what_signs_requests_is_not_told() -> None:
    error = OSError("GET https://b/k?X-Amz-Signature=beef failed")
    assert "beef" not in connection_error(error, "s").details["cause"]
