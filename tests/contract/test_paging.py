"""A token continues the list that gave it, and no other."""

from __future__ import annotations

import base64

import msgspec
import pytest

from s3downloader.contract import item_after, page_token
from s3downloader.errors import DownloaderError, ErrorCode

LISTS = [
    ("downloads",),
    ("limits",),
    ("models",),
    ("objects", "bucket", "key/"),
    ("objects", "bucket", "other/"),
    ("objects", "other", "key/"),
    ("objects", "bucketkey", "/"),
    ("files", "d-1"),
    ("files", "d-2"),
]


@pytest.mark.parametrize("given", LISTS, ids=".".join)
def test_a_token_is_taken_by_its_own_list_alone(given: tuple[str, ...]) -> None:
    kind, item = (int, 7) if given[0] == "files" else (str, "m-7")
    token = page_token(item, *given)
    assert item_after(token, kind, *given) == item
    for other in LISTS:
        if other != given:
            with pytest.raises(DownloaderError, match="that this list gave") as refusal:
                item_after(token, int if other[0] == "files" else str, *other)
            assert refusal.value.code is ErrorCode.INVALID_FIELD
            assert refusal.value.details == {"field": "next_token"}


@pytest.mark.parametrize("token", ["pGE", "AQ", "%%%", "", "kw", "é"])
def test_what_is_no_token_of_this_version_is_refused(token: str) -> None:
    with pytest.raises(DownloaderError, match="leave it out") as refusal:
        item_after(token, str, "models")
    assert refusal.value.code is ErrorCode.INVALID_FIELD


def test_the_item_in_a_token_has_the_type_of_its_list() -> None:
    with pytest.raises(DownloaderError, match="that this list gave"):
        item_after(page_token(7, "models"), str, "models")


def test_a_token_adds_but_a_few_bytes_to_its_item() -> None:
    of = ("objects", "b" * 63, "k" * 1_000)
    bare = base64.urlsafe_b64encode(msgspec.msgpack.encode("k" * 1_024))
    assert len(page_token("k" * 1_024, *of)) <= len(bare) + 10
