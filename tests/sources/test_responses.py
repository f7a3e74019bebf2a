"""What a response proves by its status, headers and first bytes."""

from __future__ import annotations

from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.sources.s3 import responses

MD5 = "0123456789abcdef0123456789abcdef"
DATE = "Wed, 25 Nov 2026 13:02:32 GMT"
HTML = {"content-type": "text/html; charset=utf-8", "content-length": "84"}
BINARY = {"content-type": "binary/octet-stream", "content-length": "84"}
STORE = {"x-amz-request-id": "4442587F"}
PAGE = b"\xef\xbb\xbf\n <!DOCTYPE html>\n<html>"

FOREIGN: list[tuple[str, int, dict[str, str], dict[str, Any]]] = [
    ("a page", 200, HTML, {}),
    ("a page of nginx", 200, {**HTML, "etag": '"5f3a-54"', "last-modified": DATE}, {}),
    ("a page where the listing told of something else", 200, HTML, {"validator": MD5}),
    ("a page with another date", 200, {**HTML, "last-modified": DATE}, {"validator": MD5}),
    ("a page of no type", 200, {"content-length": "84"}, {"head": PAGE}),
    ("a page of another type", 200, BINARY, {"head": b"<html lang=en>"}),
    ("nothing that an object has", 200, {}, {}),
    ("nothing, and that is told", 200, {"content-length": "0"}, {}),
    ("a range of it that has no size", 206, {"content-range": "bytes 0-0/*"}, {}),
    ("a message", 200, {"content-type": "application/json", "content-length": "9"}, {}),
    ("a redirect to a login", 302, {"location": "https://login.example/?u=1"}, {}),
    ("a redirect that keeps the method", 307, {"location": "https://login.example/"}, {}),
    ("a network that wants a login", 511, {**STORE}, {}),
    ("a refusal of a proxy", 403, HTML, {}),
    ("a page that is not there", 404, {}, {"head": PAGE}),
    ("nothing", 204, {}, {}),
]
OWN: list[tuple[str, int, dict[str, str], dict[str, Any]]] = [
    ("an object", 200, {**BINARY, "etag": f'"{MD5}"'}, {}),
    ("an object without an ETag", 200, {**BINARY, "last-modified": DATE}, {}),
    ("an object with a length alone", 200, BINARY, {}),
    ("an empty object", 200, {"content-length": "0", "etag": '"x"'}, {}),
    ("an empty object of a store", 200, {**STORE, "content-length": "0"}, {}),
    ("an object with an ETag alone", 200, {"etag": '"x"'}, {}),
    ("a page that the listing told of", 200, {**HTML, "etag": '"x-54"'}, {"validator": "x-54"}),
    ("a page by its date", 200, {**HTML, "last-modified": DATE}, {"validator": DATE}),
    ("a page with the ETag of an object", 200, {**HTML, "etag": f'"{MD5}-2"'}, {}),
    ("a page of a store", 200, {**HTML, **STORE}, {"head": PAGE, "validator": MD5}),
    ("a range", 206, {"content-range": "bytes 0-0/84"}, {}),
    ("a refusal", 403, {"content-type": "application/xml"}, {"head": b"<Error>"}),
    ("a store that is not well", 503, HTML, {"head": PAGE}),
    ("a redirect of a store", 307, {**STORE, "location": "https://b.s3.amazonaws.com/"}, {}),
]


@pytest.mark.parametrize(
    ("status", "headers", "known"), [f[1:] for f in FOREIGN], ids=[f[0] for f in FOREIGN]
)
def test_what_no_store_answers(status: int, headers: dict[str, str], known: dict[str, Any]) -> None:
    assert responses.is_foreign(status, headers, **known)


@pytest.mark.parametrize(
    ("status", "headers", "known"), [o[1:] for o in OWN], ids=[o[0] for o in OWN]
)
def test_what_a_store_answers(status: int, headers: dict[str, str], known: dict[str, Any]) -> None:
    assert not responses.is_foreign(status, headers, **known)


def test_the_error_says_where_to_look_and_keeps_secrets() -> None:
    headers = {
        "location": "https://me:pw@login.example/in?token=beef#x",
        "content-type": "text/html",
    }
    with pytest.raises(DownloaderError) as caught:
        responses.check_object(302, headers, "s3://b/k")
    assert caught.value.code is ErrorCode.NETWORK_UNREACHABLE
    assert caught.value.message == (
        "something between the device and the object store responds for s3://b/k (status 302,"
        " pointing to https://login.example/in, text/html); check for a network that requires a"
        " login, a proxy, or an EndpointUrl of another server"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("5497558138880", 5 << 40),
        ("9223372036854775807", (1 << 63) - 1),
        ("9223372036854775808", None),
        ("9" * 5_000, None),
        ("", None),
        (None, None),
        ("abc", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1_000", None),
        ("\u0661", None),
        ("5, 5", None),
    ],
)
def test_a_size_is_decimal_digits(text: str | None, value: int | None) -> None:
    assert responses.number(text) == value
    assert responses.length({} if text is None else {"content-length": text}) == value


@pytest.mark.parametrize(
    ("content_range", "value"),
    [
        ("bytes 0-0/84", 84),
        ("bytes */0", 0),
        ("bytes 0-0/*", None),
        ("bytes 0-0/abc", None),
        ("bytes 0-0", None),
        ("octets 0-0/84", None),
        ("", None),
    ],
)
def test_the_size_of_an_object_in_a_range_of_it(content_range: str, value: int | None) -> None:
    assert responses.total({"content-range": content_range}) == value


@pytest.mark.parametrize(
    ("headers", "validator", "same"),
    [
        ({"etag": f'"{MD5}"'}, MD5, True),
        ({"etag": f'W/"{MD5}"'}, MD5, True),
        ({"etag": '"other"'}, MD5, False),
        ({"last-modified": DATE}, MD5, False),
        ({"etag": '"x"', "last-modified": DATE}, DATE, True),
        ({"etag": '"x"', "last-modified": "yesterday"}, DATE, False),
        ({"etag": '"x"'}, DATE, False),
        ({}, "", False),
        ({"etag": '"x"'}, "", False),
    ],
)
def test_an_answer_agrees_by_what_it_says(
    headers: dict[str, str], validator: str, same: bool
) -> None:
    assert responses.has_validator(headers, validator) is same


def test_the_md5_of_something_is_not_that_of_an_empty_object() -> None:
    assert responses.contradicts_empty({"etag": f'"{MD5}"'})
    for etag in (responses.EMPTY_MD5, f"{MD5}-2", "x", ""):
        assert not responses.contradicts_empty({"etag": f'"{etag}"'})
