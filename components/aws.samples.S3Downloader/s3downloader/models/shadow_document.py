"""Reads and checks the content of the models shadow.

`state.reported.models` maps model ids to entries. `state.desired.models` maps model ids to the
fields that a model should have.

The limits are those of the AWS IoT Device Shadow service. Sources: "Diagnosing problems with
shadows" and "Device Shadow error messages" in the AWS IoT Core developer guide; where they say
nothing, the code of the ShadowManager component. Bytes are counted in compact JSON, levels from
`state` on.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..core.errors import DownloaderError, ErrorCode
from ..messaging.bus import ShadowDocument

__all__ = [
    "ModelEntry",
    "Models",
    "check_fields",
    "check_id",
    "invalid_paths",
    "json_bytes",
    "normalize",
    "readable",
    "same",
    "shadow_bytes",
    "unreadable",
    "with_reported",
]

ModelEntry = dict[str, Any]
Models = dict[str, ModelEntry]

_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
_NAME_BYTES = 128
_LEVELS = 3  # a shadow has six from `state` on; `state`, `reported` and `models` are three of them
_FIELD_BYTES = 4_000

_encode = msgspec.json.Encoder(order="deterministic").encode


def normalize(value: Any) -> Any:
    """Return `value` as a shadow stores it: without nulls and empty objects."""
    if not isinstance(value, dict):
        return value
    fields = {name: normalize(field) for name, field in value.items()}
    return {name: field for name, field in fields.items() if field not in (None, {})}


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal. Unlike with `==`, true is not equal to 1."""
    return _encode(one) == _encode(other)


def json_bytes(value: Any) -> int:
    """Return the bytes of `value` as compact JSON, 0 for None."""
    return 0 if value is None else len(_encode(value))


def shadow_bytes(document: ShadowDocument) -> int:
    """Return the bytes of a shadow that count towards its size limit. Metadata does not count."""
    return sum(json_bytes(part or None) for part in (document.desired, document.reported))


def readable(section: ModelEntry) -> Models:
    """Return the valid models in `desired` or `reported`, normalized."""
    models = section.get("models")
    if not isinstance(models, dict):
        return {}
    normalized = {
        name: normalize(model) for name, model in models.items() if _is_model(name, model)
    }
    return {name: model for name, model in normalized.items() if model}


def unreadable(section: ModelEntry) -> ModelEntry | None:
    """Return the values below `models` that are not models. None if `models` is not an object."""
    models = section.get("models", {})
    if not isinstance(models, dict):
        return None
    return {name: model for name, model in models.items() if not _is_model(name, model)}


def invalid_paths(document: ShadowDocument) -> set[str]:
    """Return the paths of the values in a shadow that are not models, as `desired.models.ID`."""
    paths = set()
    for part, section in (("desired", document.desired), ("reported", document.reported)):
        invalid = unreadable(section)
        if invalid is None:
            paths.add(f"{part}.models")
        else:
            paths.update(f"{part}.models.{name}" for name in invalid)
    return paths


def with_reported(document: ShadowDocument, models: Models) -> ShadowDocument:
    """Return `document` with `models` as its reported models. Invalid values there are kept."""
    invalid = unreadable(document.reported) or {}
    reported = {**document.reported, "models": {**invalid, **models}}
    return msgspec.structs.replace(document, reported=reported)


def check_id(model_id: object) -> None:
    """Raise INVALID_FIELD if `model_id` cannot be the key of a model in the shadow."""
    if not _is_name(model_id):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            f"a model_id is text of 1 to {_NAME_BYTES} bytes without control characters, and"
            f" {model_id!r} is not; choose another model_id in model_meta",
            field="model_id",
        )


def check_fields(model: ModelEntry) -> None:
    """Raise INVALID_FIELD for a field that a shadow cannot store, or that is too large to send."""
    for name, value in model.items():
        problem = _problem(name, value)
        if problem:
            raise DownloaderError(
                ErrorCode.INVALID_FIELD,
                f"the field {name!r} of the model {problem}; change it or leave it out",
                field=name,
            )


def _is_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and _NAME.fullmatch(name) is not None
        and len(name.encode()) <= _NAME_BYTES
    )


def _is_model(name: str, model: object) -> bool:
    return _is_name(name) and isinstance(model, dict) and model.get("model_id", name) == name


def _problem(name: str, value: Any) -> str | None:
    """Return what is wrong with a field, or None."""
    if not _is_name(name) or not _names_are_safe(value):
        return f"has a name that is not 1 to {_NAME_BYTES} bytes without control characters"
    if _has_null_in_list(value):
        return "has a null in a list, which a shadow does not allow"
    if _levels(value) >= _LEVELS:
        return (
            f"is nested too deep: a model has at most {_LEVELS} levels, with its own as the first"
        )
    if json_bytes(value) > _FIELD_BYTES:
        return f"has {json_bytes(value)} bytes, and one field may have at most {_FIELD_BYTES}"
    return None


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _names_are_safe(value: Any) -> bool:
    own = map(_is_name, value) if isinstance(value, dict) else ()
    return all(own) and all(map(_names_are_safe, _children(value)))


def _has_null_in_list(value: Any) -> bool:
    own = isinstance(value, list) and None in value
    return own or any(map(_has_null_in_list, _children(value)))


def _levels(value: Any) -> int:
    """Return the depth of nested objects and lists, 0 for any other value."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_levels, _children(value)), default=0)
