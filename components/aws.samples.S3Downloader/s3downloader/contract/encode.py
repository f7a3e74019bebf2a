"""From a message to bytes that fit into the payload limit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from .paging import DOWNLOADS, FILES, LIMITS, MODELS, OBJECTS, page_token
from .responses import (
    DetailsResponse,
    DownloadsResponse,
    LimitsResponse,
    Message,
    ModelsResponse,
    ObjectsResponse,
    Status,
    StatusResponse,
)

__all__ = ["encode"]

_AnyMessage = TypeVar("_AnyMessage", bound=Message)


class _Listing(NamedTuple):
    """The list in a message, and the token of the page after an item of it."""

    field: str
    token_after: Callable[[Any, Any], str] | None


_LISTINGS: dict[type[Message], _Listing] = {
    DownloadsResponse: _Listing(
        "downloads", lambda _, item: page_token(item.download_id, DOWNLOADS)
    ),
    ObjectsResponse: _Listing(
        "objects", lambda said, item: page_token(item.key, OBJECTS, said.bucket, said.key)
    ),
    ModelsResponse: _Listing("models", lambda _, item: page_token(item["model_id"], MODELS)),
    DetailsResponse: _Listing(
        "files", lambda said, item: page_token(item.number, FILES, said.download_id)
    ),
    LimitsResponse: _Listing("downloads", lambda _, item: page_token(item.download_id, LIMITS)),
    StatusResponse: _Listing("downloads", None),
    Status: _Listing("downloads", None),
}

_IDENTITY = frozenset({"command_id", "command", "download_id", "model_id", "next_token"})
"""Fields that are never shortened; together they stay below the smallest MaxPayloadBytes."""

# What JSON has no type for, such as a path among the details of an error, is written as text.
_json = msgspec.json.Encoder(enc_hook=str)


def encode(message: Message, max_bytes: int) -> bytes:
    """Return `message` as JSON of at most `max_bytes` bytes, which are at least 2,000.

    Of a list, as many items are kept as fit, and at least one; `next_token` then leads on after
    the last of them. A list without pages is cut, with `truncated: true`. Where a message is
    still too large, its texts keep their ends alone, and `truncated: true` says so.
    """
    data = _json.encode(message)
    if len(data) > max_bytes and type(message) in _LISTINGS:
        message = _cut_list(message, _LISTINGS[type(message)], max_bytes)
        data = _json.encode(message)
    if len(data) > max_bytes:
        data = _shorten(message, max_bytes)
    return data


def _cut_list(message: _AnyMessage, listing: _Listing, max_bytes: int) -> _AnyMessage:
    items = getattr(message, listing.field)

    def first(count: int) -> _AnyMessage:
        if count >= len(items):
            return message
        if listing.token_after is None:
            mark: dict[str, Any] = {"truncated": True}
        else:
            mark = {"next_token": listing.token_after(message, items[count - 1])}
        return msgspec.structs.replace(message, **{listing.field: items[:count]}, **mark)

    fitting = _most(len(items), lambda count: len(_json.encode(first(count))), max_bytes)
    return first(max(fitting, 1))


def _shorten(message: Message, max_bytes: int) -> bytes:
    def shortened(limit: int) -> bytes:
        return _json.encode({**_shortened(message, limit), "truncated": True})

    return shortened(_most(max_bytes, lambda limit: len(shortened(limit)), max_bytes))


def _most(most: int, size: Callable[[int], int], max_size: int) -> int:
    """Return the greatest count from 1 to `most` whose size fits, or 0 where none does."""
    return bisect_right(range(1, most + 1), max_size, key=size)


def _shortened(value: Any, limit: int) -> Any:
    """Return `value` with texts of at most `limit` characters, and as many items of free-form data.

    A text keeps its end, where a chain of errors has its cause and a path its file.
    """
    if isinstance(value, msgspec.Struct):
        return _shortened_struct(value, limit)
    if isinstance(value, dict):
        items = islice(value.items(), limit)
        return {_shortened(key, limit): _shortened(item, limit) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shortened(item, limit) for item in islice(value, max(limit, 1))]
    if type(value) is str and len(value) > limit:
        return "…" + value[len(value) - limit :]
    return value


def _shortened_struct(struct: msgspec.Struct, limit: int) -> dict[str, Any]:
    config = struct.__struct_config__
    fields = {config.tag_field: config.tag} if config.tag_field else {}
    for name, value in msgspec.structs.asdict(struct).items():
        if value is not UNSET:
            fields[name] = value if name in _IDENTITY else _shortened(value, limit)
    return fields
