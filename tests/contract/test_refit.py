"""Encoded messages are made smaller afterwards."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from s3downloader.contract import encode, refit
from s3downloader.contract.responses import EVENTS, RESPONSES, STATUS, Message

from .messages import QUICK, anything

LARGEST = 131_072


@pytest.mark.parametrize("kind", [*RESPONSES, *EVENTS, *STATUS])
def test_it_is_as_if_encoded_for_the_smaller_limit(kind: type[Message]) -> None:
    @QUICK
    @given(anything(kind))
    def check(message: Message) -> None:
        once = encode(message, LARGEST)
        again = refit(once, 2_000)
        assert len(again) <= 2_000
        assert msgspec.json.decode(again) == msgspec.json.decode(encode(message, 2_000))

    check()


def test_a_page_that_is_cut_again_leads_on_after_its_last_item() -> None:
    model = {"model_id": "m", "text": "x" * 400}
    models = [{**model, "model_id": f"m-{number}"} for number in range(50)]
    message = {"command_id": "c", "command": "model_list", "success": True, "message": "50"}
    payload = msgspec.json.encode({**message, "models": models, "next_token": "old"})
    page = msgspec.json.decode(refit(payload, 7_000))
    assert 0 < len(page["models"]) < 50
    shorter = msgspec.json.decode(refit(payload, 2_000))
    assert shorter["next_token"] not in ("old", page["next_token"])
    assert page["models"][: len(shorter["models"])] == shorter["models"]


def test_what_fits_is_left_alone() -> None:
    assert refit(b'{"event": "download_started"}', 2_000) == b'{"event": "download_started"}'


def test_a_message_of_another_version_is_shortened() -> None:
    message = {"command_id": "c" * 100, "what": "nobody knows", "text": "x" * 9_000 + "the end"}
    shorter = msgspec.json.decode(refit(msgspec.json.encode(message), 2_000))
    assert shorter["command_id"] == message["command_id"]
    assert shorter["text"].endswith("the end")
    assert shorter["truncated"] is True


@pytest.mark.parametrize("payload", [b"x" * 3_000, b"[" + b"1," * 2_000 + b"1]"])
def test_what_is_no_message_comes_back_as_it_is(payload: bytes) -> None:
    assert refit(payload, 2_000) == payload


def test_what_is_no_utf8_comes_back_as_it_is() -> None:
    payload = b'{"event": "\xff"}' + b" " * 3_000
    assert refit(payload, 2_000) == payload
