"""Tokens that continue a long list after its last item."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from typing import TypeVar

import msgspec

from ..errors import DownloaderError, ErrorCode

__all__ = ["DOWNLOADS", "FILES", "LIMITS", "MODELS", "OBJECTS", "item_after", "page_token"]

DOWNLOADS, OBJECTS, MODELS, FILES, LIMITS = "downloads", "objects", "models", "files", "limits"
"""The names of the lists. Objects are those of a bucket and a key, files those of a download."""

_Item = TypeVar("_Item", bound=str | int)
_MARK_BYTES = 4


def page_token(item: str | int, *of: str) -> str:
    """Return the opaque token of the page that begins after `item` in the list `of`.

    `of` is the list's name, and what was asked of it, such as bucket and key. Of these the token
    carries but a mark of four bytes, so that it stays short.
    """
    packed = msgspec.msgpack.encode((_mark(of), item))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def item_after(token: str, kind: type[_Item], *of: str) -> _Item:
    """Return the item after which the page of `token` begins in the list `of`.

    It is the `download_id`, key or `model_id` (a str), or the number of a file (an int). Raises
    INVALID_FIELD for a token of another list, and for what is no token at all.
    """
    with suppress(ValueError):
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        mark, item = msgspec.msgpack.decode(packed, type=tuple[bytes, msgspec.Raw])
        if mark == _mark(of):
            return msgspec.msgpack.decode(item, type=kind)
    raise DownloaderError(
        ErrorCode.INVALID_FIELD,
        "next_token is none that this list gave: a token goes with the command that it answered,"
        " unchanged; leave it out to start from the beginning",
        field="next_token",
    )


def _mark(of: tuple[str, ...]) -> bytes:
    told = msgspec.msgpack.encode(of)
    return hashlib.blake2b(told, digest_size=_MARK_BYTES).digest()
