"""The texts of s5cmd's errors get the right codes."""

from __future__ import annotations

import pytest

from s3downloader.core.error_mapping import explain, without_secrets
from s3downloader.core.errors import ErrorCode

_STATUS = "status code: {}, request id: 18E9F66BE, host id: x"
_DIAL = 'RequestError: send request failed caused by: Get "http://store:1/b/k": dial tcp {}'

WORDS = [
    ("NoSuchKey: The specified key does not exist. " + _STATUS.format(404), "object_not_found"),
    ("given object s3://b/k not found", "object_not_found"),
    (
        "NoSuchBucket: The specified bucket does not exist " + _STATUS.format(404),
        "bucket_not_found",
    ),
    ("NotFound: Not Found " + _STATUS.format(404), "bucket_not_found"),
    ("BucketRegionError: incorrect region, " + _STATUS.format(301), "bucket_not_found"),
    ("AccessDenied: Access Denied " + _STATUS.format(403), "access_denied"),
    ("Forbidden: Forbidden " + _STATUS.format(403), "access_denied"),
    ("SignatureDoesNotMatch: The request signature " + _STATUS.format(403), "access_denied"),
    ("InvalidAccessKeyId: The AWS Access Key Id you " + _STATUS.format(403), "access_denied"),
    (
        "RequestTimeTooSkewed: The difference between " + _STATUS.format(403),
        "credentials_unavailable",
    ),
    ("InvalidObjectState: The operation is not valid " + _STATUS.format(403), "access_denied"),
    ("BadRequest: Bad Request " + _STATUS.format(400), "access_denied"),
    ("NoCredentialProviders: no valid providers in chain. Deprecated.", "credentials_unavailable"),
    (
        "ExpiredToken: The provided token has expired. " + _STATUS.format(400),
        "credentials_unavailable",
    ),
    ("CredentialsEndpointError: failed to load credentials", "credentials_unavailable"),
    (_DIAL.format("127.0.0.1:1: connect: connection refused"), "network_unreachable"),
    (_DIAL.format(": lookup store on 10.0.0.2:53: no such host"), "network_unreachable"),
    (_DIAL.format("10.0.0.1:1: connect: no route to host"), "network_unreachable"),
    (_DIAL.format("10.0.0.1:1: connect: network is unreachable"), "network_unreachable"),
    ("RequestError: send request failed caused by: EOF", "network_unreachable"),
    ("read tcp 1.2.3.4:5->6.7.8.9:443: read: connection reset by peer", "network_unreachable"),
    ("x509: certificate signed by unknown authority", "network_unreachable"),
    (_DIAL.format("10.0.0.1:1: i/o timeout"), "timeout"),
    ("read tcp 1.2.3.4:5->6.7.8.9:443: read: connection timed out", "timeout"),
    ("RequestTimeout: Your socket connection to the server " + _STATUS.format(400), "timeout"),
    ("SlowDown: Please reduce your request rate. " + _STATUS.format(503), "timeout"),
    ("write /d/in-flight/7.object1: no space left on device", "disk_full"),
    ("write /d/in-flight/7.object1: disk quota exceeded", "disk_full"),
    ("open /d/in-flight/7.object1: read-only file system", "destination_not_writable"),
    ("open /d/in-flight/7.object1: permission denied", "destination_not_writable"),
    ("write /d/in-flight/7.object1: input/output error", "destination_not_writable"),
    ("write /d/in-flight/7.object1: file too large", "destination_not_writable"),
    (
        "WARNING: s5cmd is hitting the max open file limit allowed by your OS.",
        "resources_exhausted",
    ),
    ("s5cmd was killed by SIGKILL", "engine_failed"),
    ("fatal error: runtime: out of memory", "resources_exhausted"),
    ("fork/exec /usr/bin/s5cmd: cannot allocate memory", "resources_exhausted"),
    ("runtime: failed to create new OS thread (have 5 already; errno=11)", "resources_exhausted"),
    ("open /d/in-flight/7.object1: no such file or directory", "destination_not_writable"),
    ("dial tcp: lookup store: Temporary failure in name resolution", "network_unreachable"),
    ("PreconditionFailed:  status code: 412", "source_changed"),
    ("InvalidRange:  status code: 416", "size_mismatch"),
    ("SlowDown:  status code: 429", "timeout"),
    ("NotImplemented: A header you provided " + _STATUS.format(501), "engine_failed"),
]


@pytest.mark.parametrize(("text", "code"), WORDS, ids=[text[:40] for text, _ in WORDS])
def test_words_are_understood(text: str, code: str) -> None:
    error = explain(text, "s3://b/k")
    assert error.code is ErrorCode(code)
    assert error.details == {"cause": text}
    assert ";" in error.message, "a sentence says what to do"


def test_a_refusal_is_told_in_the_store_s_own_words() -> None:
    text = "AccessDenied: Download bandwidth cap exceeded. " + _STATUS.format(403)
    assert "(AccessDenied: Download bandwidth cap exceeded. status" in explain(text, "s").message
    assert "(s5cmd was killed by SIGKILL)" in explain("s5cmd was killed by SIGKILL", "s").message
    assert len(explain("AccessDenied: " + "long " * 1_000, "s").message) < 700


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDenied", "s3:ListBucket"),
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_the_advice_fits_the_code(code: str, advice: str) -> None:
    assert advice in explain(f"{code}: No. " + _STATUS.format(403), "s3://b/k").message


def test_the_words_of_a_key_mean_nothing() -> None:
    key = "s3://b/AccessDenied/no space left on device"
    assert explain(f"given object {key} not found", key).code is ErrorCode.OBJECT_NOT_FOUND


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIA/1, Signature=beef",
        "x-amz-security-token: beef",
        "https://b/k?AWSAccessKeyId=AKIA&Signature=beef",
        "password=beef token=beef",
    ],
)
def test_what_signs_requests_does_not_pass(secret: str) -> None:
    cleaned = without_secrets(f"got {secret} in vain")
    assert "beef" not in cleaned
    assert "AKIA" not in cleaned
    assert cleaned.startswith("got ")
    assert cleaned.endswith(" in vain")


def test_signed_urls_do_not_pass() -> None:
    text = (
        'Get "https://b/k?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=beef&x=1": connection refused'
    )
    cause = explain(text, "s3://b/k").details["cause"]
    assert cause == (
        'Get "https://b/k?X-Amz-Credential=...&X-Amz-Signature=...&x=1": connection refused'
    )
