"""What the models shadow may hold, and how it is read.

`state.reported.models` maps model ids to entries, `state.desired.models` model ids to wishes.

The limits are those of the AWS IoT Device Shadow service ("Diagnosing problems with shadows" and
"Device Shadow error messages" in the AWS IoT Core developer guide) and, where the guide is silent,
of the ShadowManager component: bytes are counted in compact JSON, levels from `state` on.
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
_LEVELS = 3  # six from `state` on, of which `state`, `reported` and `models` are taken
_FIELD_BYTES = 4_000

_encode = msgspec.json.Encoder(order="deterministic").encode


def normalize(value: Any) -> Any:
    """Return `value` without what a shadow does not keep: nulls and empty objects."""
    if not isinstance(value, dict):
        return value
    fields = {name: normalize(field) for name, field in value.items()}
    return {name: field for name, field in fields.items() if field not in (None, {})}


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; unlike with `==`, true is not 1."""
    return _encode(one) == _encode(other)


def json_bytes(value: Any) -> int:
    """Return the length of `value` as compact JSON; nothing has none."""
    return 0 if value is None else len(_encode(value))


def shadow_bytes(document: ShadowDocument) -> int:
    """Return the bytes of a shadow that count against its limit: its metadata does not."""
    return sum(json_bytes(part or None) for part in (document.desired, document.reported))


def readable(section: ModelEntry) -> Models:
    """Return the models in `desired` or `reported`, in plain form."""
    models = section.get("models")
    if not isinstance(models, dict):
        return {}
    normalized = {
        name: normalize(model) for name, model in models.items() if _is_model(name, model)
    }
    return {name: model for name, model in normalized.items() if model}


def unreadable(section: ModelEntry) -> ModelEntry | None:
    """Return what stands in the place of a model and is none; None if nothing there is one."""
    models = section.get("models", {})
    if not isinstance(models, dict):
        return None
    return {name: model for name, model in models.items() if not _is_model(name, model)}


def invalid_paths(document: ShadowDocument) -> set[str]:
    """Return the paths of all that is unreadable in a shadow."""
    paths = set()
    for part, section in (("desired", document.desired), ("reported", document.reported)):
        strange = unreadable(section)
        if strange is None:
            paths.add(f"{part}.models")
        else:
            paths.update(f"{part}.models.{name}" for name in strange)
    return paths


def with_reported(document: ShadowDocument, models: Models) -> ShadowDocument:
    """Return `document` as it will be once it reports `models`."""
    strange = unreadable(document.reported) or {}
    reported = {**document.reported, "models": {**strange, **models}}
    return msgspec.structs.replace(document, reported=reported)


def check_id(model_id: object) -> None:
    """Raise INVALID_FIELD for what cannot be the key of a model."""
    if not _is_name(model_id):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            f"a model_id is text of 1 to {_NAME_BYTES} bytes without control characters, and"
            f" {model_id!r} is not; give model_meta another model_id",
            field="model_id",
        )


def check_fields(model: ModelEntry) -> None:
    """Raise INVALID_FIELD for a field that a shadow cannot hold, or an update not carry."""
    for name, value in model.items():
        fault = _fault(name, value)
        if fault:
            raise DownloaderError(
                ErrorCode.INVALID_FIELD,
                f"the field {name!r} of the model {fault}; change it or leave it out",
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


def _fault(name: str, value: Any) -> str | None:
    """Say why a shadow cannot hold a field, if it cannot."""
    if not _is_name(name) or not _names_are_safe(value):
        return f"has a name that is not 1 to {_NAME_BYTES} bytes without control characters"
    if _has_null_in_list(value):
        return "has a null in a list, which a shadow does not allow"
    if _levels(value) >= _LEVELS:
        return f"is nested too deep: a model has {_LEVELS} levels, of which it is one itself"
    if json_bytes(value) > _FIELD_BYTES:
        return f"takes {json_bytes(value)} bytes, and one field may take {_FIELD_BYTES}"
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
    """Count how deep objects and lists lie in each other."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_levels, _children(value)), default=0)
