"""Tokens that continue a long list after its last item."""

from __future__ import annotations

import base64
from typing import TypeVar

import msgspec

from ..errors import DownloaderError, ErrorCode

__all__ = ["item_after", "page_token"]

_Item = TypeVar("_Item", bound=str | int)


def page_token(item: str | int) -> str:
    """Return the opaque token of the page that begins after `item`."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(item)).rstrip(b"=").decode()


def item_after(token: str, kind: type[_Item]) -> _Item:
    """Return the item after which the page of `token` begins.

    It is the `download_id`, key or `model_id` (a str), or the number of a file (an int). Raises
    INVALID_FIELD for a token of another kind of list, and for what is no token at all.
    """
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(packed, type=kind)
    except ValueError:
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            "next_token is none that this list gave; leave it out to start from the beginning",
            field="next_token",
        ) from None
