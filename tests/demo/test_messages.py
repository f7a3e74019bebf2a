"""Messages are shortened for the screen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.demo.messages import brief, is_status

STATUS = {"active_downloads": 1, "downloads": [{"download_id": "d", "key": "k/", "progress": 5.0}]}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"command": "pause", "command_id": "c-1"}, '{"command": "pause"}'),
        ({"destination": "/tmp/demo/models/m"}, '{"destination": "…/models/m"}'),
        ({"models": list("abcde")}, '{"models": ["a", "b", "c", "… 2 more"]}'),
        ({"error": "é" * 500}, '{"error": "' + "é" * 159 + '…"}'),
        (STATUS, '{"downloads": [{"download_id": "d", "progress": 5.0}]}'),
    ],
)
def test_what_is_shown_of_a_message(message: dict[str, Any], shown: str) -> None:
    assert brief(json.dumps(message).encode(), base="/tmp/demo") == shown


@pytest.mark.parametrize("payload", [b"no JSON", b"[1]", b"\x1b[31m\xff"])
def test_what_is_no_message_is_shown_without_control_characters(payload: bytes) -> None:
    assert brief(payload, base="/tmp/demo").isprintable()


def test_the_response_to_status_is_not_the_periodic_status() -> None:
    assert is_status(STATUS)
    assert not is_status({"command": "status", **STATUS})
