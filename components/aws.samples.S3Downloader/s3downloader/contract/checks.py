"""Checks the values in commands. The errors say what is allowed."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args, get_origin

import msgspec

from ..core.errors import DownloaderError, ErrorCode
from ..core.objects import Layout
from ..core.records import EngineName
from .fields import MODEL_META_EXAMPLE, MODEL_META_LEVELS, ModelId, Sha256

__all__ = [
    "check",
    "check_limit",
    "check_model_meta",
    "check_sha256",
    "is_deeper",
    "meta_of",
    "shown",
]

_SHOWN_LENGTH = 80
_SHA256 = re.compile("[0-9A-Fa-f]{64}")


def check(name: str, value: Any, kind: Any) -> Any:
    """Return `value` converted to `kind`, a type of fields.py. Raises INVALID_FIELD.

    `name` is the name of the field, for the error.
    """
    meta = meta_of(kind)
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise _invalid(name, value, meta) from None
    size = len(converted.encode()) if isinstance(converted, str) else 0
    if meta.extra and size > meta.extra["max_bytes"]:
        raise _invalid(name, value, meta)
    return converted


def meta_of(kind: Any) -> msgspec.Meta:
    """Return the description, bounds and examples of a type of fields.py, which may be optional."""
    while get_origin(kind) is not Annotated:
        kind = get_args(kind)[0]
    meta = kind.__metadata__[0]
    assert isinstance(meta, msgspec.Meta)
    return meta


def check_model_meta(meta: dict[str, Any], *, needs_id: bool = False) -> None:
    """Raise INVALID_FIELD if the models shadow cannot store `meta`.

    Raises MISSING_FIELD if the model_id is missing although `needs_id` is true.
    """
    if "model_id" in meta:
        check("model_meta.model_id", meta["model_id"], ModelId)
    elif needs_id:
        example = msgspec.json.encode({"model_meta": MODEL_META_EXAMPLE}).decode()
        raise DownloaderError(
            ErrorCode.MISSING_FIELD,
            f"model_meta needs model_id; send for example {example}",
            fields=["model_meta.model_id"],
        )
    if is_deeper(meta, MODEL_META_LEVELS):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            f"model_meta cannot be nested deeper than {MODEL_META_LEVELS} levels, the limit of the"
            " models shadow; flatten it",
            field="model_meta",
            allowed=MODEL_META_LEVELS,
        )


def check_sha256(given: str | dict[str, str], layout: Layout) -> None:
    """Raise INVALID_FIELD unless `given` is a SHA-256, or for a tree SHA-256s by their paths."""
    if isinstance(given, dict) is not (layout == "tree"):
        raise _invalid("sha256", given, meta_of(Sha256))
    for value in given.values() if isinstance(given, dict) else [given]:
        if not _SHA256.fullmatch(value):
            raise _invalid("sha256", value, meta_of(Sha256))


def check_limit(engine: EngineName, limit: int | None) -> None:
    """Raise INVALID_FIELD if `limit` is set, and the engine has no bandwidth limits."""
    if limit and engine == "s5cmd":
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            'max_bandwidth cannot be used with engine "s5cmd", which has no limits; leave the'
            ' limit out, or send "engine":"auto" or "engine":"ranged"',
            field="max_bandwidth",
            given=limit,
        )


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether objects and lists in `value` are nested deeper than `levels`."""
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(child, levels - 1) for child in children)


def _invalid(name: str, value: Any, meta: msgspec.Meta) -> DownloaderError:
    given = shown(value)
    return DownloaderError(
        ErrorCode.INVALID_FIELD,
        f"{name} cannot be {given}; it is {meta.description}",
        field=name,
        given=given,
        allowed=meta.description,
    )


def shown(value: Any) -> str:
    """Return a short text for a decoded JSON value, to quote it in an error."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"
