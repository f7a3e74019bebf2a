"""The exceptions of decoding."""

from __future__ import annotations

import msgspec

__all__ = ["DECODE_ERRORS"]

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises if bytes are not JSON or MessagePack, do not fit the type, or are not UTF-8.
"""
