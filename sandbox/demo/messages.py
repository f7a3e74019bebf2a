"""Messages as people read them: the telling fields alone, and long values shortened."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

__all__ = ["brief", "decode", "is_status"]

_UNTOLD = {
    "active_downloads",
    "clientToken",
    "command_id",
    "device_id",
    "disk_space",
    "error_details",
    "metadata",
    "timestamp",
}
_STANDING = {"bucket", "key", "destination", "bytes_total", "files_total"}
_LONGEST_TEXT = 160
_LONGEST_MESSAGE = 500
_MOST_ITEMS = 3


def decode(payload: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `payload`, None where there is none."""
    try:
        message = json.loads(payload)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def brief(payload: bytes, *, here: str) -> str:
    """Return a payload as one line; paths under the directory `here` begin with `…`."""
    message = decode(payload)
    if message is None:
        return _cut(repr(payload)[1:], _LONGEST_TEXT)
    untold = _UNTOLD | _STANDING if is_status(message) else _UNTOLD
    line = json.dumps(_brief(message, here, untold), ensure_ascii=False)
    return _cut(line, _LONGEST_MESSAGE)


def is_status(message: dict[str, Any]) -> bool:
    """Tell whether it is the periodic status, rather than an answer or a notice."""
    return "active_downloads" in message and "command" not in message


def _brief(value: Any, here: str, untold: Set[str]) -> Any:
    if isinstance(value, dict):
        return {k: _brief(child, here, untold) for k, child in value.items() if k not in untold}
    if isinstance(value, list):
        more = [f"… {len(value) - _MOST_ITEMS} more"] if len(value) > _MOST_ITEMS else []
        return [_brief(child, here, untold) for child in value[:_MOST_ITEMS]] + more
    if isinstance(value, str):
        return _cut(value.replace(here, "…"), _LONGEST_TEXT)
    return value


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
