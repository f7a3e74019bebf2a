"""Decodes a command from JSON. The errors say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec.structs import FieldInfo

from ..core.errors import DownloaderError, ErrorCode
from .checks import check, is_deeper, meta_of, shown
from .commands import COMMANDS, Command, name_of
from .fields import MODEL_META_NAMES, CommandId
from .names import nearest, spellings

__all__ = ["decode_command", "peek"]

_LEVELS = 32
_TOO_DEEP = f"the payload is nested deeper than {_LEVELS} levels"
_SIMPLEST = '{"command":"status"}'

_COMMANDS = {spelling: kind for kind in COMMANDS for spelling in spellings(name_of(kind))}
_MODEL_META = {spelling: name for name in MODEL_META_NAMES for spelling in spellings(name)}


def decode_command(payload: bytes, *, max_bytes: int, command_id: str | None = None) -> Command:
    """Return the command in `payload`, of at most `max_bytes`. `command_id` is for one without id.

    Raises PAYLOAD_TOO_LARGE, INVALID_JSON, UNKNOWN_COMMAND, UNKNOWN_FIELD, MISSING_FIELD or
    INVALID_FIELD. The details say what was given and what is allowed. If a name occurs twice, the
    last value counts.
    """
    if len(payload) > max_bytes:
        raise DownloaderError(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"the command has {len(payload)} bytes; shorten it to at most {max_bytes}",
            given=len(payload),
            allowed=max_bytes,
        )
    message = _parse(payload)
    kind = _kind(message)
    given = _canonical(message, _names(kind))
    del given["command"]
    if command_id is not None:
        given.setdefault("command_id", command_id)
    if isinstance(meta := given.get("model_meta"), dict):
        given["model_meta"] = _canonical(meta, _MODEL_META)
    fields = _fields(kind)
    _refuse_unknown(kind, given)
    _refuse_missing(kind, given)
    return kind(**{name: check(name, value, fields[name].type) for name, value in given.items()})


def peek(payload: bytes) -> tuple[str | None, str | None]:
    """Return the id and the name of the command in `payload`. None for one that cannot be read.

    The refusal of a command that cannot be decoded has them too.
    """
    try:
        message = _parse(payload)
    except DownloaderError:
        return None, None
    ids = (message[spelling] for spelling in spellings("command_id") if spelling in message)
    name = _short_text(message.get("command"))
    kind = _COMMANDS.get(name or "")
    return _short_text(next(ids, None)), name_of(kind) if kind else name


def _short_text(value: Any) -> str | None:
    """Return `value` if it is text that fits a command_id, so that a response can quote it."""
    try:
        return str(check("command_id", value, CommandId))
    except DownloaderError:
        return None


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        message = msgspec.json.decode(payload)
    except RecursionError:
        raise _invalid_json(_TOO_DEEP) from None
    except UnicodeDecodeError:
        raise _invalid_json("the payload is not UTF-8") from None
    except msgspec.ValidationError:
        raise _invalid_json("a number in the payload is out of range") from None
    except msgspec.DecodeError as error:
        raise _invalid_json(f"the payload cannot be decoded: {error}") from None
    if not isinstance(message, dict):
        raise _invalid_json(f"a command is a JSON object, not {shown(message)}")
    if is_deeper(message, _LEVELS):
        raise _invalid_json(_TOO_DEEP)
    return message


def _invalid_json(reason: str) -> DownloaderError:
    return DownloaderError(
        ErrorCode.INVALID_JSON, f"{reason}; send one JSON object, for example {_SIMPLEST}"
    )


def _kind(message: dict[str, Any]) -> type[Command]:
    allowed = [name_of(kind) for kind in COMMANDS]
    if "command" not in message:
        raise DownloaderError(
            ErrorCode.MISSING_FIELD,
            f"the message needs command, one of {', '.join(allowed)}; send for example {_SIMPLEST}",
            fields=["command"],
            allowed=allowed,
        )
    name = message["command"]
    if not isinstance(name, str):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            f"command cannot be {shown(name)}; it is one of {', '.join(allowed)}",
            field="command",
            given=shown(name),
            allowed=allowed,
        )
    if name not in _COMMANDS:
        raise _unknown(ErrorCode.UNKNOWN_COMMAND, "there is no command", name, _COMMANDS, allowed)
    return _COMMANDS[name]


def _canonical(given: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return `given` with all known spellings replaced by the names of the contract."""
    canonical: dict[str, Any] = {}
    for spelling, value in given.items():
        name = names.get(spelling, spelling)
        if canonical.setdefault(name, value) != value:
            raise DownloaderError(
                ErrorCode.INVALID_FIELD,
                f"{name} is given in two spellings with different values; give it once",
                field=name,
                given=[shown(canonical[name]), shown(value)],
            )
    return canonical


@cache
def _fields(kind: type[Command]) -> dict[str, FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(kind)}


@cache
def _names(kind: type[Command]) -> dict[str, str]:
    return {spelling: name for name in _fields(kind) for spelling in spellings(name)}


def _refuse_unknown(kind: type[Command], given: dict[str, Any]) -> None:
    unknown = next((name for name in given if name not in _fields(kind)), None)
    if unknown is not None:
        raise _unknown(
            ErrorCode.UNKNOWN_FIELD,
            f"{name_of(kind)} has no field",
            unknown,
            _names(kind),
            list(_fields(kind)),
        )


def _unknown(
    code: ErrorCode, what: str, name: str, names: Mapping[str, Any], allowed: list[str]
) -> DownloaderError:
    suggestion = nearest(name, names)
    hint = f"did you mean {suggestion}? Allowed are" if suggestion else "allowed are"
    return DownloaderError(
        code,
        f"{what} {shown(name)}; {hint} {', '.join(allowed)}",
        given=shown(name),
        allowed=allowed,
        **({"suggestion": suggestion} if suggestion else {}),
    )


def _refuse_missing(kind: type[Command], given: dict[str, Any]) -> None:
    required = [name for name, field in _fields(kind).items() if field.required]
    missing = [name for name in required if name not in given]
    if missing:
        example = {"command": name_of(kind), **{name: _example(kind, name) for name in required}}
        text = msgspec.json.encode(example).decode()
        raise DownloaderError(
            ErrorCode.MISSING_FIELD,
            f"{name_of(kind)} needs {' and '.join(missing)}; send for example {text}",
            fields=missing,
            example=example,
        )


def _example(kind: type[Command], name: str) -> Any:
    examples = meta_of(_fields(kind)[name].type).examples
    assert examples
    return examples[0]
