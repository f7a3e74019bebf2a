"""Validators of objects are parsed, compared, and turned into conditions."""

from __future__ import annotations

import pytest

from s3downloader.core import validators

DATE = "Wed, 25 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"abc-2"', "last-modified": DATE}, "abc-2"),
        ({"etag": "abc"}, "abc"),
        ({"etag": 'W/"abc"'}, "W/abc"),
        ({"last-modified": DATE}, DATE),
        ({"etag": '""', "last-modified": DATE}, DATE),
        ({"etag": '"not an etag"'}, ""),
        ({"last-modified": "yesterday"}, ""),
        ({}, ""),
    ],
)
def test_from_headers(headers: dict[str, str], validator: str) -> None:
    assert validators.from_headers(headers) == validator


@pytest.mark.parametrize(
    ("etag", "modified", "validator"),
    [
        ('"abc"', "2026-11-25T12:00:00.000Z", "abc"),
        ("", "2026-11-25T12:00:00.999Z", DATE),
        ("", "2026-11-25T13:00:00+01:00", DATE),
        ("", "2026-11-25T12:00:00", DATE),
        ("", "lately", ""),
        ("", "", ""),
    ],
)
def test_from_listing(etag: str, modified: str, validator: str) -> None:
    assert validators.from_listing(etag, modified) == validator


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("abc", "abc", True),
        ("W/abc", "abc", True),
        ("W/abc", "W/abc", True),
        ("abc", "abd", False),
        (DATE, DATE, True),
        (DATE, "abc", False),
        ("", "abc", False),
        ("", "", False),
    ],
)
def test_same(one: str, other: str, is_same: bool) -> None:
    assert validators.same(one, other) is is_same
    assert validators.same(other, one) is is_same


@pytest.mark.parametrize(
    ("validator", "headers"),
    [
        ("abc", {"if-match": '"abc"'}),
        ("W/abc", {}),
        (DATE, {"if-unmodified-since": DATE}),
        ("", {}),
    ],
)
def test_conditions(validator: str, headers: dict[str, str]) -> None:
    assert validators.conditions(validator) == headers


def test_the_time_of_the_last_change_is_read_from_headers() -> None:
    assert validators.modified_from_headers({"last-modified": DATE}) == 1_795_608_000.0
    for headers in ({}, {"last-modified": "yesterday"}, {"last-modified": ""}):
        assert validators.modified_from_headers(headers) is None


@pytest.mark.parametrize(
    ("listed", "modified"),
    [
        ("2026-11-25T13:02:32.250Z", 1_795_611_752.25),
        ("2026-11-25T13:02:32", 1_795_611_752.0),
        ("2026-11-25T15:02:32+02:00", 1_795_611_752.0),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_time_of_the_last_change_is_read_from_a_listing(
    listed: str, modified: float | None
) -> None:
    assert validators.modified_from_listing(listed) == modified
