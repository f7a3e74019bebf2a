"""What decoding raises."""

from __future__ import annotations

import msgspec

__all__ = ["DECODE_ERRORS"]

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that are no JSON or MessagePack, do not fit the type, or hold a
text that is no UTF-8."""
