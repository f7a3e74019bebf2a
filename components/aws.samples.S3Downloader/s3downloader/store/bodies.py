"""Encodes and decodes the JSON texts of records. Keeps fields that a newer downloader has added.

An unknown field stays when its record is written again. An unknown error code is read as
`internal_error`; the message beside it says what happened.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from ..core.errors import ErrorCode
from ..core.records import Download, Options, Version
from .recovery.sealing import seal, unseal

__all__ = ["download", "encode", "encode_fields", "version"]

T = TypeVar("T", bound=msgspec.Struct)

_CODES = {code.value for code in ErrorCode}
_LASTING = (Options,)
"""Nested records that keep unknown fields when they change. Others lose them: a nested record that
changes is then a new one."""


def download(sealed: bytes) -> Download:
    """Return the download in a row's text. Raises msgspec.DecodeError, UnicodeDecodeError."""
    return _decode(sealed, Download)


def version(sealed: bytes) -> Version:
    """Return the version in a row's text. Raises msgspec.DecodeError, UnicodeDecodeError."""
    return _decode(sealed, Version)


def encode(key: str, record: msgspec.Struct, *, before: bytes | None = None) -> bytes:
    """Return the JSON text of a record, with its checksum, for the row with that key.

    `before` is the present text of the same record. Its unknown fields are kept.
    """
    if before is None:
        return seal(key, msgspec.json.encode(record))
    fields = msgspec.json.decode(msgspec.json.encode(record))
    earlier = msgspec.json.decode(unseal(before))
    _keep_unknown(fields, earlier)
    known = _decode(before, type(record))
    for field in msgspec.structs.fields(record):
        now, then = getattr(record, field.name), getattr(known, field.name)
        if isinstance(now, msgspec.Struct) and now == then:
            fields[field.encode_name] = earlier[field.encode_name]
        elif isinstance(now, _LASTING) and isinstance(then, _LASTING):
            _keep_unknown(fields[field.encode_name], earlier[field.encode_name])
    return seal(key, msgspec.json.encode(fields))


def encode_fields(key: str, text: bytes, *, before: bytes | None = None) -> bytes:
    """Return a JSON text with its checksum, for the row with that key.

    `before` is the present text of the row. If both are objects, fields that only `before` has are
    kept.
    """
    if before is not None:
        fields, earlier = msgspec.json.decode(text), msgspec.json.decode(unseal(before))
        if isinstance(fields, dict) and isinstance(earlier, dict):
            _keep_unknown(fields, earlier)
            text = msgspec.json.encode(fields)
    return seal(key, text)


def _decode(sealed: bytes, kind: type[T]) -> T:
    text = unseal(sealed)
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(text)
        if not _replace_unknown_code(fields):
            raise
        return msgspec.json.decode(msgspec.json.encode(fields), type=kind)


def _replace_unknown_code(fields: Any) -> bool:
    """Replace an unknown error code with INTERNAL_ERROR. Return whether there was one."""
    failure = fields.get("failure") if isinstance(fields, dict) else None
    code = failure.get("code") if isinstance(failure, dict) else None
    if not isinstance(failure, dict) or code in _CODES:
        return False
    failure["code"] = ErrorCode.INTERNAL_ERROR.value
    return True


def _keep_unknown(fields: dict[str, Any], earlier: dict[str, Any]) -> None:
    for name, value in earlier.items():
        fields.setdefault(name, value)
