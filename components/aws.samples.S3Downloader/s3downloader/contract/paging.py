"""Tokens that continue a long list after its last item."""

from __future__ import annotations

import base64
from hashlib import blake2s
from typing import TypeVar

import msgspec

from ..core.errors import DownloaderError, ErrorCode

__all__ = ["DOWNLOADS", "LIMITS", "MODELS", "files_of", "item_after", "objects_of", "page_token"]

_Item = TypeVar("_Item", bound=str | int)

DOWNLOADS, LIMITS, MODELS = "downloads", "limits", "models"
"""The names of the lists that a device has one of."""

_DIGEST_BYTES = 6


def files_of(download_id: str) -> str:
    """Return the name of the list of a download's files."""
    return f"files {download_id}"


def objects_of(bucket: str, prefix: str) -> str:
    """Return the name of the list of the objects under a prefix."""
    return f"objects s3://{bucket}/{prefix}"


def page_token(listing: str, item: str | int) -> str:
    """Return the opaque token of the page of the list `listing` that begins after `item`."""
    packed = msgspec.msgpack.encode((_digest(listing), item))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def item_after(listing: str, token: str, kind: type[_Item]) -> _Item:
    """Return the item after which the page of `token` begins.

    It is the `download_id`, key or `model_id` (a str), or the number of a file (an int). Raises
    INVALID_FIELD for a token of another list, and for what is no token at all.
    """
    of, item = _unpacked(token)
    if of != _digest(listing) or not isinstance(item, kind):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            "next_token is none that this list gave; leave it out to start from the beginning",
            field="next_token",
        )
    return item


def _unpacked(token: str) -> tuple[bytes, str | int]:
    """Return the digest of a token's list, and the item; an empty digest for what is no token."""
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(packed, type=tuple[bytes, str | int])
    except ValueError:
        return b"", ""


def _digest(listing: str) -> bytes:
    """Return what stands for a list in its tokens, which are to stay short."""
    return blake2s(listing.encode(), digest_size=_DIGEST_BYTES).digest()
