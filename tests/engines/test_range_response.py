"""The status and the headers of a response to GET: what they prove, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.engines.ranged.range_response import (
    Body,
    ObjectRequest,
    RangesIgnoredError,
    check_refusal,
    check_response,
)

ETAG = "0123456789abcdef0123456789abcdef"
DATE = "Wed, 25 Nov 2026 10:00:00 GMT"
SIZE = 1_000
NAMED = {"etag": f'"{ETAG}"'}
PART = {**NAMED, "content-range": "bytes 100-299/1000", "content-length": "200"}


def requested(span: tuple[int, int] | None = None, **more: Any) -> ObjectRequest:
    fields = {"subject": "s3://models/m", "validator": ETAG, "size": SIZE, **more}
    return ObjectRequest(span=span, **fields)


GOOD: list[tuple[int, dict[str, str], ObjectRequest, Body]] = [
    (200, {**NAMED, "content-length": "1000"}, requested(), Body(1_000, True, True)),
    (200, {**NAMED, "content-length": "1000"}, requested((0, 1_000)), Body(1_000, True, True)),
    (206, PART, requested((100, 300)), Body(200, True, True)),
    (
        206,
        {**PART, "content-range": "Bytes 100-299/1000"},
        requested((100, 300)),
        Body(200, True, True),
    ),
    (
        206,
        {**PART, "content-range": "bytes 100-299/*"},
        requested((100, 300)),
        Body(200, True, True),
    ),
    (
        206,
        {**NAMED, "content-range": "bytes 100-299/1000", "transfer-encoding": "chunked"},
        requested((100, 300)),
        Body(200, False, True),
    ),
    (200, {**NAMED, "transfer-encoding": "chunked"}, requested(), Body(1_000, False, False)),
    (200, {**NAMED, "content-length": "0"}, requested(size=0), Body(0, True, True)),
    (200, {"etag": f'W/"{ETAG}"', "content-length": "1000"}, requested(), Body(1_000, True, True)),
    (
        200,
        {"last-modified": DATE, "content-length": "1000"},
        requested(validator=DATE),
        Body(1_000, True, True),
    ),
    (
        200,
        {**NAMED, "last-modified": DATE, "content-length": "1000"},
        requested(validator=DATE),
        Body(1_000, True, True),
    ),
    (200, {"content-length": "1000"}, requested(validator=""), Body(1_000, True, True)),
    (
        200,
        {**NAMED, "content-length": "1000", "content-encoding": "gzip"},
        requested(),
        Body(1_000, True, True),
    ),
    (206, {**PART, "content-encoding": "gzip"}, requested((100, 300)), Body(200, True, True)),
    (
        200,
        {**NAMED, "content-length": "1000", "content-type": "text/html"},
        requested(),
        Body(1_000, True, True),
    ),
    (
        200,
        {"content-length": "1000", "content-type": "text/html"},
        requested(validator="", subject="s3://models/README.html"),
        Body(1_000, True, True),
    ),
]


@pytest.mark.parametrize(("status", "headers", "get", "body"), GOOD)
def test_an_answer_that_proves_what_it_brings_is_taken(
    status: int, headers: dict[str, str], get: ObjectRequest, body: Body
) -> None:
    assert check_response(status, headers, get) == body


BAD: list[tuple[int, dict[str, str], ObjectRequest, ErrorCode]] = [
    # Another object, or no object.
    (200, {"etag": '"another"', "content-length": "1000"}, requested(), ErrorCode.SOURCE_CHANGED),
    (206, {**PART, "etag": '"another"'}, requested((100, 300)), ErrorCode.SOURCE_CHANGED),
    (
        200,
        {"last-modified": "Wed, 25 Nov 2026 10:00:01 GMT", "content-length": "1000"},
        requested(validator=DATE),
        ErrorCode.SOURCE_CHANGED,
    ),
    (200, {"content-length": "1000"}, requested(), ErrorCode.NETWORK_UNREACHABLE),
    (200, {"content-length": "1000"}, requested(validator=DATE), ErrorCode.NETWORK_UNREACHABLE),
    (
        200,
        {"etag": '"page"', "content-length": "1000", "content-type": "text/html; charset=utf-8"},
        requested(),
        ErrorCode.NETWORK_UNREACHABLE,
    ),
    (
        200,
        {"content-length": "1000", "content-type": "text/html"},
        requested(validator=""),
        ErrorCode.NETWORK_UNREACHABLE,
    ),
    (200, {}, requested(validator=""), ErrorCode.NETWORK_UNREACHABLE),
    (200, {**NAMED, "content-length": "abc"}, requested(), ErrorCode.NETWORK_UNREACHABLE),
    (200, {**NAMED, "content-length": "-1"}, requested(), ErrorCode.NETWORK_UNREACHABLE),
    # Another size.
    (200, {**NAMED, "content-length": "999"}, requested(), ErrorCode.SIZE_MISMATCH),
    (200, {**NAMED, "content-length": "1"}, requested(size=0), ErrorCode.SIZE_MISMATCH),
    (206, {**PART, "content-length": "199"}, requested((100, 300)), ErrorCode.SIZE_MISMATCH),
    (
        206,
        {**PART, "content-range": "bytes 100-299/1001"},
        requested((100, 300)),
        ErrorCode.SIZE_MISMATCH,
    ),
    (
        200,
        {**NAMED, "content-length": "999", "transfer-encoding": "chunked"},
        requested(),
        ErrorCode.SIZE_MISMATCH,
    ),
    # Another encoding.
    (
        200,
        {**NAMED, "content-encoding": "gzip", "transfer-encoding": "chunked"},
        requested(),
        ErrorCode.ENCODING_CHANGED,
    ),
    (
        200,
        {**NAMED, "content-encoding": "br", "content-length": "400"},
        requested(),
        ErrorCode.ENCODING_CHANGED,
    ),
    (
        206,
        {**PART, "content-encoding": "gzip", "content-length": "90"},
        requested((100, 300)),
        ErrorCode.ENCODING_CHANGED,
    ),
    (200, {**NAMED, "transfer-encoding": "gzip, chunked"}, requested(), ErrorCode.ENCODING_CHANGED),
]


@pytest.mark.parametrize(("status", "headers", "get", "code"), BAD)
def test_an_answer_that_does_not_is_refused(
    status: int, headers: dict[str, str], get: ObjectRequest, code: ErrorCode
) -> None:
    with pytest.raises(DownloaderError) as caught:
        check_response(status, headers, get)
    assert caught.value.code is code
    assert not isinstance(caught.value, RangesIgnoredError)
    assert ";" in caught.value.message, "a sentence says what to do"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {**NAMED, "content-length": "1000"}),
        (200, {**NAMED, "transfer-encoding": "chunked"}),
        (206, {**NAMED, "content-length": "200"}),
        (206, {**PART, "content-range": "bytes 0-199/1000"}),
        (206, {**PART, "content-range": "bytes 100-199/1000", "content-length": "100"}),
        (206, {**PART, "content-range": "bytes */1000"}),
        (206, {**PART, "content-range": "items 100-299/1000"}),
        (206, {**NAMED, "content-type": "multipart/byteranges; boundary=x"}),
    ],
)
def test_other_bytes_than_those_asked_for_show(status: int, headers: dict[str, str]) -> None:
    with pytest.raises(RangesIgnoredError):
        check_response(status, headers, requested((100, 300)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 511])
def test_a_redirect_that_no_store_explains_is_not_its_answer(status: int) -> None:
    with pytest.raises(DownloaderError) as caught:
        check_refusal(status, "", requested())
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE


@pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (403, ""), (503, "")])
def test_a_refusal_of_the_store_is_its_own(status: int, code: str) -> None:
    check_refusal(status, code, requested())
