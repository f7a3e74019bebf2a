"""Messages as people read them: the telling fields alone, and long values shortened."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["brief", "decode"]

_UNTOLD = {"clientToken", "command_id", "device_id", "disk_space", "metadata", "timestamp"}
_LONGEST_TEXT = 72
_LONGEST_MESSAGE = 480
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
    line = json.dumps(_brief(message, here), ensure_ascii=False)
    return _cut(line, _LONGEST_MESSAGE)


def _brief(value: Any, here: str) -> Any:
    if isinstance(value, dict):
        return {key: _brief(child, here) for key, child in value.items() if key not in _UNTOLD}
    if isinstance(value, list):
        more = [f"… {len(value) - _MOST_ITEMS} more"] if len(value) > _MOST_ITEMS else []
        return [_brief(child, here) for child in value[:_MOST_ITEMS]] + more
    if isinstance(value, str):
        return _cut(value.replace(here, "…"), _LONGEST_TEXT)
    return value


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
