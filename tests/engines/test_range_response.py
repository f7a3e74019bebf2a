"""What the head of an answer to a GET proves, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.engines.ranged.range_response import (
    Asked,
    Body,
    RangesIgnoredError,
    check_refusal,
    judge,
)

ETAG = "0123456789abcdef0123456789abcdef"
DATE = "Wed, 25 Nov 2026 10:00:00 GMT"
SIZE = 1_000
NAMED = {"etag": f'"{ETAG}"'}
PART = {**NAMED, "content-range": "bytes 100-299/1000", "content-length": "200"}


def asked(span: tuple[int, int] | None = None, **more: Any) -> Asked:
    fields = {"subject": "s3://models/m", "validator": ETAG, "size": SIZE, **more}
    return Asked(span=span, **fields)


GOOD: list[tuple[int, dict[str, str], Asked, Body]] = [
    (200, {**NAMED, "content-length": "1000"}, asked(), Body(1_000, True, True)),
    (200, {**NAMED, "content-length": "1000"}, asked((0, 1_000)), Body(1_000, True, True)),
    (206, PART, asked((100, 300)), Body(200, True, True)),
    (
        206,
        {**PART, "content-range": "Bytes 100-299/1000"},
        asked((100, 300)),
        Body(200, True, True),
    ),
    (
        206,
        {**PART, "content-range": "bytes 100-299/*"},
        asked((100, 300)),
        Body(200, True, True),
    ),
    (
        206,
        {**NAMED, "content-range": "bytes 100-299/1000", "transfer-encoding": "chunked"},
        asked((100, 300)),
        Body(200, False, True),
    ),
    (200, {**NAMED, "transfer-encoding": "chunked"}, asked(), Body(1_000, False, False)),
    (200, {**NAMED, "content-length": "0"}, asked(size=0), Body(0, True, True)),
    (200, {"etag": f'W/"{ETAG}"', "content-length": "1000"}, asked(), Body(1_000, True, True)),
    (
        200,
        {"last-modified": DATE, "content-length": "1000"},
        asked(validator=DATE),
        Body(1_000, True, True),
    ),
    (
        200,
        {**NAMED, "last-modified": DATE, "content-length": "1000"},
        asked(validator=DATE),
        Body(1_000, True, True),
    ),
    (200, {"content-length": "1000"}, asked(validator=""), Body(1_000, True, True)),
    (
        200,
        {**NAMED, "content-length": "1000", "content-encoding": "gzip"},
        asked(),
        Body(1_000, True, True),
    ),
    (206, {**PART, "content-encoding": "gzip"}, asked((100, 300)), Body(200, True, True)),
    (
        200,
        {**NAMED, "content-length": "1000", "content-type": "text/html"},
        asked(),
        Body(1_000, True, True),
    ),
    (
        200,
        {"content-length": "1000", "content-type": "text/html"},
        asked(validator="", subject="s3://models/README.html"),
        Body(1_000, True, True),
    ),
]


@pytest.mark.parametrize(("status", "headers", "of", "body"), GOOD)
def test_an_answer_that_proves_what_it_brings_is_taken(
    status: int, headers: dict[str, str], of: Asked, body: Body
) -> None:
    assert judge(status, headers, of) == body


BAD: list[tuple[int, dict[str, str], Asked, ErrorCode]] = [
    # Another object, or something that is none.
    (200, {"etag": '"another"', "content-length": "1000"}, asked(), ErrorCode.SOURCE_CHANGED),
    (206, {**PART, "etag": '"another"'}, asked((100, 300)), ErrorCode.SOURCE_CHANGED),
    (
        200,
        {"last-modified": "Wed, 25 Nov 2026 10:00:01 GMT", "content-length": "1000"},
        asked(validator=DATE),
        ErrorCode.SOURCE_CHANGED,
    ),
    (200, {"content-length": "1000"}, asked(), ErrorCode.NETWORK_UNREACHABLE),
    (200, {"content-length": "1000"}, asked(validator=DATE), ErrorCode.NETWORK_UNREACHABLE),
    (
        200,
        {"etag": '"page"', "content-length": "1000", "content-type": "text/html; charset=utf-8"},
        asked(),
        ErrorCode.NETWORK_UNREACHABLE,
    ),
    (
        200,
        {"content-length": "1000", "content-type": "text/html"},
        asked(validator=""),
        ErrorCode.NETWORK_UNREACHABLE,
    ),
    (200, {}, asked(validator=""), ErrorCode.NETWORK_UNREACHABLE),
    (200, {**NAMED, "content-length": "abc"}, asked(), ErrorCode.NETWORK_UNREACHABLE),
    (200, {**NAMED, "content-length": "-1"}, asked(), ErrorCode.NETWORK_UNREACHABLE),
    # Another size.
    (200, {**NAMED, "content-length": "999"}, asked(), ErrorCode.SIZE_MISMATCH),
    (200, {**NAMED, "content-length": "1"}, asked(size=0), ErrorCode.SIZE_MISMATCH),
    (206, {**PART, "content-length": "199"}, asked((100, 300)), ErrorCode.SIZE_MISMATCH),
    (
        206,
        {**PART, "content-range": "bytes 100-299/1001"},
        asked((100, 300)),
        ErrorCode.SIZE_MISMATCH,
    ),
    (
        200,
        {**NAMED, "content-length": "999", "transfer-encoding": "chunked"},
        asked(),
        ErrorCode.SIZE_MISMATCH,
    ),
    # Another form.
    (
        200,
        {**NAMED, "content-encoding": "gzip", "transfer-encoding": "chunked"},
        asked(),
        ErrorCode.ENCODING_CHANGED,
    ),
    (
        200,
        {**NAMED, "content-encoding": "br", "content-length": "400"},
        asked(),
        ErrorCode.ENCODING_CHANGED,
    ),
    (
        206,
        {**PART, "content-encoding": "gzip", "content-length": "90"},
        asked((100, 300)),
        ErrorCode.ENCODING_CHANGED,
    ),
    (200, {**NAMED, "transfer-encoding": "gzip, chunked"}, asked(), ErrorCode.ENCODING_CHANGED),
]


@pytest.mark.parametrize(("status", "headers", "of", "code"), BAD)
def test_an_answer_that_does_not_is_refused(
    status: int, headers: dict[str, str], of: Asked, code: ErrorCode
) -> None:
    with pytest.raises(DownloaderError) as caught:
        judge(status, headers, of)
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
        judge(status, headers, asked((100, 300)))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 511])
def test_a_redirect_that_no_store_explains_is_not_its_answer(status: int) -> None:
    with pytest.raises(DownloaderError) as caught:
        check_refusal(status, "", asked())
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE


@pytest.mark.parametrize(("status", "code"), [(301, "PermanentRedirect"), (403, ""), (503, "")])
def test_a_refusal_of_the_store_is_its_own(status: int, code: str) -> None:
    check_refusal(status, code, asked())
