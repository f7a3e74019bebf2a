"""Seals JSON texts in the database with a checksum, so that a flipped bit is detected.

The seal follows the JSON text. It consists of 32 spaces and tabs, one for each bit of a CRC-32 of
the row's key and the text. White space after a JSON text has no meaning (RFC 8259, section 2), so
an early downloader, which does not know seals, reads the same. Texts that such a downloader wrote
have no seal, and are accepted without.
"""

from __future__ import annotations

import zlib

__all__ = ["RESPONSES", "is_intact", "is_sealed", "message_key", "seal", "unseal"]

RESPONSES = "responses"
"""The channel of responses and events: the topic `responses`."""

_BITS = 32
_MARKS = bytes.maketrans(b"01", b" \t")


def seal(key: str, body: bytes) -> bytes:
    """Return the JSON text `body` with its seal, for the row with that key."""
    return body + _mark(key, body)


def unseal(sealed: bytes) -> bytes:
    """Return the JSON text without its seal, if it has one."""
    return sealed[:-_BITS] if is_sealed(sealed) else sealed


def is_sealed(text: bytes) -> bool:
    """Tell whether a text has a seal: without one, it does not end in white space."""
    return text[-1:].isspace()


def is_intact(key: str, sealed: bytes) -> bool:
    """Tell whether the seal of a text matches the text and its key."""
    return sealed[-_BITS:] == _mark(key, unseal(sealed))


def message_key(channel: str) -> str:
    """Return the key for the seal of a message in the outbox.

    It is empty for RESPONSES: up to version 3 that was the only channel, and messages had no key.
    """
    return "" if channel == RESPONSES else channel


def _mark(key: str, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(key.encode(errors="surrogatepass")))
    return format(check, f"0{_BITS}b").encode().translate(_MARKS)
