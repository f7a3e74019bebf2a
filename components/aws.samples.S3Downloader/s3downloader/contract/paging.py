"""Makes and reads the tokens that request the next page of a list."""

from __future__ import annotations

import base64
from hashlib import blake2s
from typing import TypeVar

import msgspec

from ..core.errors import DownloaderError, ErrorCode

__all__ = ["DOWNLOADS", "LIMITS", "MODELS", "files_of", "item_after", "objects_of", "page_token"]

_Item = TypeVar("_Item", bound=str | int)

DOWNLOADS, LIMITS, MODELS = "downloads", "limits", "models"
"""Names of the lists of which a device has one each."""

_DIGEST_BYTES = 6


def files_of(download_id: str) -> str:
    """Return the name of the list of a download's files."""
    return f"files {download_id}"


def objects_of(bucket: str, prefix: str) -> str:
    """Return the name of the list of the objects with a prefix."""
    return f"objects s3://{bucket}/{prefix}"


def page_token(listing: str, item: str | int) -> str:
    """Return the token of the page after `item` in the list with the name `listing`.

    It is short opaque text: Base64 of a digest of the name and of `item`.
    """
    packed = msgspec.msgpack.encode((_digest(listing), item))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def item_after(listing: str, token: str, kind: type[_Item]) -> _Item:
    """Return the item after which the page of `token` begins, of the type `kind`.

    It is a `download_id`, a key or a `model_id` (str), or the number of a file (int). Raises
    INVALID_FIELD if `token` is not one of this list.
    """
    of, item = _unpacked(token)
    if of != _digest(listing) or not isinstance(item, kind):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            "next_token is not one of this list; leave it out to start from the beginning",
            field="next_token",
        )
    return item


def _unpacked(token: str) -> tuple[bytes, str | int]:
    """Return the digest of the list's name, and the item. The digest is empty if it is no token."""
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(packed, type=tuple[bytes, str | int])
    except ValueError:
        return b"", ""


def _digest(listing: str) -> bytes:
    """Return a digest of the list's name. It keeps tokens shorter than the name would."""
    return blake2s(listing.encode(), digest_size=_DIGEST_BYTES).digest()
