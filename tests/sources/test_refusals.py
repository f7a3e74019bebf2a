"""Refusals of an object store get the right code, and their own text is quoted."""

from __future__ import annotations

import pytest

from s3downloader.core.errors import ErrorCode
from s3downloader.sources.s3.refusals import Refusal, refusal, refusal_error

from .scripted_server import LOGIN_PAGE, error_reply

S3 = "s3://b/k"

MEANINGS = [
    (403, "AccessDenied", "access_denied", "s3:GetObject"),
    (403, "", "access_denied", "s3:GetObject"),
    (401, "Unauthorized", "access_denied", "s3:GetObject"),
    (403, "SignatureDoesNotMatch", "access_denied", "AWS_SECRET_ACCESS_KEY"),
    (403, "InvalidAccessKeyId", "access_denied", "AWS_ACCESS_KEY_ID"),
    (403, "RequestTimeTooSkewed", "credentials_unavailable", "set the clock"),
    (400, "ExpiredToken", "credentials_unavailable", "token exchange role"),
    (403, "InvalidObjectState", "access_denied", "restore it first"),
    (403, "DownloadCapExceeded", "access_denied", "its message says why"),
    (403, "SecondLevelDomainForbidden", "access_denied", "its message says why"),
    (400, "", "access_denied", "its message says why"),
    (405, "MethodNotAllowed", "access_denied", "its message says why"),
    (404, "NoSuchKey", "object_not_found", "upper and lower case"),
    (404, "", "object_not_found", "upper and lower case"),
    (404, "Odd", "object_not_found", "upper and lower case"),
    (404, "NoSuchBucket", "bucket_not_found", "check its name"),
    (301, "PermanentRedirect", "bucket_not_found", "AWS_REGION"),
    (301, "", "bucket_not_found", "AWS_REGION"),
    (304, "", "access_denied", "its message says why"),
    (400, "AuthorizationHeaderMalformed", "access_denied", "its message says why"),
    (412, "", "source_changed", "resume"),
    (416, "InvalidRange", "size_mismatch", "resume"),
    (429, "", "timeout", "repeated later"),
    (408, "", "timeout", "repeated later"),
    (500, "InternalError", "timeout", "repeated later"),
    (502, "", "timeout", "repeated later"),
    (503, "SlowDown", "timeout", "repeated later"),
    (501, "NotImplemented", "engine_failed", "its message says what"),
    (501, "", "engine_failed", "its message says what"),
    (407, "", "network_unreachable", "URL of the proxy"),
]


@pytest.mark.parametrize(("status", "code", "meaning", "advice"), MEANINGS)
def test_each_refusal_has_its_own_advice(status: int, code: str, meaning: str, advice: str) -> None:
    error = refusal_error(Refusal(status, code, "It says so."), S3)
    assert error.code is ErrorCode(meaning)
    assert advice in error.message
    assert f"{code}: It says so., status {status}".removeprefix(": ") in error.message
    assert error.details["status"] == status


def test_a_bucket_that_is_not_there() -> None:
    error = refusal_error(Refusal(404), "s3://b/prefix/", of_bucket=True)
    assert error.code is ErrorCode.BUCKET_NOT_FOUND


EXPLANATIONS = [
    "Cannot download file, download bandwidth or transaction (Class B) cap exceeded.",
    "Bucket is requester pays bucket but no x-amz-request-payer header found.",
    "Please use virtual hosted style to access.",
    "User: arn:aws:iam::1:user/x is not authorized to perform: s3:GetObject with an explicit deny",
]


@pytest.mark.parametrize("message", EXPLANATIONS)
def test_the_words_of_the_store_are_in_the_error(message: str) -> None:
    reply = error_reply(403, "AccessDenied", message)
    assert isinstance(reply.body, bytes)
    error = refusal_error(refusal(403, {"x-amz-request-id": "1"}, reply.body), S3)
    assert f"(AccessDenied: {message}, status 403)" in error.message


def test_words_are_bounded_and_keep_no_secrets() -> None:
    message = "\n got  X-Amz-Signature=beef&x=1 Authorization: AWS4-HMAC-SHA256 Credential=AK/1, "
    body = error_reply(403, "AccessDenied" * 50, message + "long " * 500).body
    assert isinstance(body, bytes)
    message = refusal_error(refusal(403, {}, body), S3).message
    assert len(message) < 800
    assert "got X-Amz-Signature=...&x=1" in message
    assert not any(secret in message for secret in ("beef", "AK/1", "\n"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message": "Forbidden by policy"}', '{"message": "Forbidden by policy"}, status 403'),
        (b"go away\x00\xff", "go away\x00\ufffd, status 403"),
        (b"", "(status 403)"),
        (b"<Error><Code>AccessDenied", "<Error><Code>AccessDenied, status 403"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><Error><Code>&b;</Code></Error>', "status 403"),
    ],
)
def test_what_is_no_document_is_quoted(body: bytes, words: str) -> None:
    error = refusal_error(refusal(403, {}, body), S3)
    assert error.code is ErrorCode.ACCESS_DENIED
    assert words in error.message


@pytest.mark.parametrize("status", [302, 403, 404])
def test_a_page_is_of_something_between(status: int) -> None:
    refused = refusal(status, {"content-type": "text/html"}, LOGIN_PAGE)
    error = refusal_error(refused, S3)
    assert error.code is ErrorCode.NETWORK_UNREACHABLE
    assert "something between" in error.message


ELSEWHERE = [
    ({"x-amz-bucket-region": "ap-south-1"}, {}),
    ({}, {"Region": "ap-south-1"}),
    ({}, {"Endpoint": "b.s3.ap-south-1.amazonaws.com"}),
    ({}, {"Endpoint": "b.s3-ap-south-1.amazonaws.com"}),
    ({"location": "https://b.s3.ap-south-1.amazonaws.com/k"}, {}),
    ({"location": "https://b.s3.dualstack.ap-south-1.amazonaws.com/k"}, {}),
]


@pytest.mark.parametrize(("headers", "elements"), ELSEWHERE)
@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed"])
def test_a_region_is_learnt_from_wherever_it_is_told(
    headers: dict[str, str], elements: dict[str, str], code: str
) -> None:
    body = error_reply(301, code, "It is elsewhere.", **elements).body
    assert isinstance(body, bytes)
    refused = refusal(301, headers, body)
    assert refused.region == "ap-south-1"
    error = refusal_error(refused, S3)
    assert error.code is ErrorCode.BUCKET_NOT_FOUND
    assert "is in another region, ap-south-1 (" in error.message


@pytest.mark.parametrize("region", ["evil.example/", "a b", "x" * 41, "EU", "evil.example#"])
def test_nothing_but_a_region_becomes_part_of_a_host(region: str) -> None:
    assert refusal(301, {"x-amz-bucket-region": region}, b"").region == ""
    body = error_reply(400, "AuthorizationHeaderMalformed", Region=region).body
    assert isinstance(body, bytes)
    assert refusal(400, {}, body).region == ""


def test_a_redirect_without_a_code_says_where_it_points() -> None:
    refused = refusal(301, {"location": "https://eu.store.example/b/k?X-Amz-Signature=beef"}, b"")
    error = refusal_error(refused, S3)
    assert error.code is ErrorCode.NETWORK_UNREACHABLE
    assert "pointing to https://eu.store.example/b/k)" in error.message
    own = refusal(301, {"x-amz-id-2": "x", "location": "https://eu.store.example/b/k"}, b"")
    assert (
        "another region, https://eu.store.example/b/k (status 301)"
        in refusal_error(own, S3).message
    )
