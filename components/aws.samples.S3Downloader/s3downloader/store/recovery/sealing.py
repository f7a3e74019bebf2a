"""A check sum that goes with each JSON text in the store, so that a flipped bit in it is found.

It follows the JSON as 32 spaces and tabs, one for each bit of a CRC-32 of the row's key and the
JSON. White space after a JSON text means nothing (RFC 8259, section 2), so a downloader that knows
no seals reads the same; and a text without a seal, as such a one wrote it, is taken as it is.
"""

from __future__ import annotations

import zlib

__all__ = ["RESPONSES", "is_intact", "is_sealed", "message_key", "seal", "unseal"]

RESPONSES = "responses"
"""The channel of messages that answer commands, and of events: the topic `responses`."""

_BITS = 32
_MARKS = bytes.maketrans(b"01", b" \t")


def seal(key: str, body: bytes) -> bytes:
    """Return `body`, a JSON text, with the seal that it has in the row of `key`."""
    return body + _mark(key, body)


def unseal(sealed: bytes) -> bytes:
    """Return the JSON text without its seal, if it has one."""
    return sealed[:-_BITS] if is_sealed(sealed) else sealed


def is_sealed(text: bytes) -> bool:
    """Tell whether a text ends as one with a seal does: a downloader ends none in white space."""
    return text[-1:].isspace()


def is_intact(key: str, sealed: bytes) -> bool:
    """Tell whether a text with a seal, and its key, are those that were sealed."""
    return sealed[-_BITS:] == _mark(key, unseal(sealed))


def message_key(channel: str) -> str:
    """Return the key with which a message of the outbox is sealed.

    Up to version 3 there was one channel, and no key.
    """
    return "" if channel == RESPONSES else channel


def _mark(key: str, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(key.encode(errors="surrogatepass")))
    return format(check, f"0{_BITS}b").encode().translate(_MARKS)
