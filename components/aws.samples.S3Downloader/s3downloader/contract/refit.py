"""Shortens a message that is already encoded."""

from __future__ import annotations

import msgspec

from ..core.decoding import DECODE_ERRORS
from .encode import encode, shorten
from .responses import EVENTS, RESPONSES, STATUS, Message

__all__ = ["refit"]

_TYPES: dict[type[Message], tuple[frozenset[str], frozenset[str]]] = {
    kind: (
        frozenset(field.encode_name for field in msgspec.structs.fields(kind)),
        frozenset(field.encode_name for field in msgspec.structs.fields(kind) if field.required),
    )
    for kind in (*RESPONSES, *EVENTS, *STATUS)
}
"""For each type of message, the fields that it may have, and those that it must have."""


def refit(payload: bytes, max_bytes: int) -> bytes:
    """Return the encoded message as `encode` makes it with a limit of `max_bytes`.

    If it fits no type of the contract, as a message of another version may, its texts are
    shortened. If it is not a JSON object, it is returned unchanged.
    """
    if len(payload) <= max_bytes:
        return payload
    try:
        fields = msgspec.json.decode(payload, type=dict[str, object])
    except DECODE_ERRORS:
        return payload
    for kind in _fitting(fields):
        try:
            return encode(msgspec.json.decode(payload, type=kind), max_bytes)
        except msgspec.ValidationError:
            continue
    return shorten(fields, max_bytes)


def _fitting(message: dict[str, object]) -> list[type[Message]]:
    """Return the types that the message fits. Those with the fewest other fields come first."""
    names = message.keys() - {"event"}
    fitting = [kind for kind, (may, must) in _TYPES.items() if must <= names <= may]
    return sorted(fitting, key=lambda kind: len(_TYPES[kind][0]))
