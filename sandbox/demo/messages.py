"""Shortens messages for the screen: shows the important fields, and cuts long values."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

__all__ = ["brief", "decode", "is_status"]

_HIDDEN = {
    "active_downloads",
    "clientToken",
    "command_id",
    "device_id",
    "disk_space",
    "error_details",
    "metadata",
    "timestamp",
}
_HIDDEN_IN_STATUS = {"bucket", "key", "destination", "bytes_total", "files_total"}
_LONGEST_TEXT = 160
_LONGEST_MESSAGE = 500
_MOST_ITEMS = 3


def decode(payload: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `payload`, or None if it is not a JSON object."""
    try:
        message = json.loads(payload)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def brief(payload: bytes, *, base: str) -> str:
    """Return a payload as one line; in paths, the directory `base` is replaced by `…`."""
    message = decode(payload)
    if message is None:
        return _cut(repr(payload)[1:], _LONGEST_TEXT)
    hidden = _HIDDEN | _HIDDEN_IN_STATUS if is_status(message) else _HIDDEN
    line = json.dumps(_brief(message, base, hidden), ensure_ascii=False)
    return _cut(line, _LONGEST_MESSAGE)


def is_status(message: dict[str, Any]) -> bool:
    """Return whether a message is the periodic status, and not a response or a notice."""
    return "active_downloads" in message and "command" not in message


def _brief(value: Any, base: str, hidden: Set[str]) -> Any:
    if isinstance(value, dict):
        return {k: _brief(child, base, hidden) for k, child in value.items() if k not in hidden}
    if isinstance(value, list):
        more = [f"… {len(value) - _MOST_ITEMS} more"] if len(value) > _MOST_ITEMS else []
        return [_brief(child, base, hidden) for child in value[:_MOST_ITEMS]] + more
    if isinstance(value, str):
        return _cut(value.replace(base, "…"), _LONGEST_TEXT)
    return value


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
