"""Encodes a message to JSON that fits into the size limit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from .paging import DOWNLOADS, LIMITS, MODELS, files_of, objects_of, page_token
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

__all__ = ["encode", "shorten"]

_AnyMessage = TypeVar("_AnyMessage", bound=Message)


class _Listing(NamedTuple):
    """The field of a message that is a list.

    `token` makes the token of the page after an item, from the message and the item. It is None for
    a list without pages.
    """

    field: str
    token: Callable[[Any, Any], str] | None = None


_LISTINGS: dict[type[Message], _Listing] = {
    DownloadsResponse: _Listing("downloads", lambda _, d: page_token(DOWNLOADS, d.download_id)),
    ObjectsResponse: _Listing(
        "objects", lambda m, o: page_token(objects_of(m.bucket, m.key), o.key)
    ),
    ModelsResponse: _Listing("models", lambda _, model: page_token(MODELS, model["model_id"])),
    DetailsResponse: _Listing("files", lambda m, f: page_token(files_of(m.download_id), f.number)),
    LimitsResponse: _Listing("downloads", lambda _, d: page_token(LIMITS, d.download_id)),
    StatusResponse: _Listing("downloads"),
    Status: _Listing("downloads"),
}

_IDENTITY = frozenset({"command_id", "command", "download_id", "model_id", "next_token"})
"""Fields that are never shortened. Together they fit into the minimum of MaxPayloadBytes."""

# Values without a JSON type, such as a path in the details of an error, become text.
_json = msgspec.json.Encoder(enc_hook=str)


def encode(message: Message, max_bytes: int) -> bytes:
    """Return `message` as JSON of at most `max_bytes` bytes. `max_bytes` is at least 2,000.

    A list keeps as many items as fit, and at least one. `next_token` then requests the rest; a list
    without pages gets `truncated: true` instead. If a message is still too large, of its texts only
    the ends are kept, and it gets `truncated: true`.
    """
    data = _json.encode(message)
    if len(data) > max_bytes and type(message) in _LISTINGS:
        message = _cut_list(message, _LISTINGS[type(message)], max_bytes)
        data = _json.encode(message)
    if len(data) > max_bytes:
        data = shorten(message, max_bytes)
    return data


def _cut_list(message: _AnyMessage, listing: _Listing, max_bytes: int) -> _AnyMessage:
    items = getattr(message, listing.field)

    def first(count: int) -> _AnyMessage:
        if count >= len(items):
            return message
        mark: dict[str, Any] = {"truncated": True}
        if listing.token:
            mark = {"next_token": listing.token(message, items[count - 1])}
        return msgspec.structs.replace(message, **{listing.field: items[:count]}, **mark)

    fitting = _largest_fitting(len(items), lambda count: len(_json.encode(first(count))), max_bytes)
    return first(max(fitting, 1))


def shorten(message: Message | dict[str, Any], max_bytes: int) -> bytes:
    """Return `message` as JSON of at most `max_bytes` bytes, with only the ends of its texts."""

    def shortened(limit: int) -> bytes:
        return _json.encode({**_shortened_fields(message, limit), "truncated": True})

    limit = _largest_fitting(max_bytes, lambda limit: len(shortened(limit)), max_bytes)
    return shortened(limit)


def _largest_fitting(maximum: int, size: Callable[[int], int], max_size: int) -> int:
    """Return the largest count from 1 to `maximum` with a `size` of at most `max_size`, or 0."""
    return bisect_right(range(1, maximum + 1), max_size, key=size)


def _shortened(value: Any, limit: int) -> Any:
    """Return `value` with at most `limit` characters per text, and `limit` items per collection.

    Of a text the end is kept, because there a chain of errors has its cause, and a path its file.
    """
    if isinstance(value, msgspec.Struct):
        return _shortened_fields(value, limit)
    if isinstance(value, dict):
        items = islice(value.items(), limit)
        return {_shortened(key, limit): _shortened(item, limit) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shortened(item, limit) for item in islice(value, max(limit, 1))]
    if type(value) is str and len(value) > limit:
        return "…" + value[len(value) - limit :]
    return value


def _shortened_fields(message: msgspec.Struct | dict[str, Any], limit: int) -> dict[str, Any]:
    if isinstance(message, dict):
        given = message
    else:
        config = message.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        given = {**tag, **msgspec.structs.asdict(message)}
    return {
        name: value if name in _IDENTITY else _shortened(value, limit)
        for name, value in given.items()
        if value is not UNSET
    }
