"""How much of a response must arrive in time, and how long an object store asks to wait."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from .errors import DownloaderError

__all__ = ["MIN_BYTES", "with_retry_after"]

MIN_BYTES = 1 << 10
"""Bytes that must arrive, at least, within the time for which an object store may be silent.

This is less than a packet. If 64 connections share a link of 20 kbit/s, each receives more.
"""

_LONGEST = 3_600.0


def with_retry_after(error: DownloaderError, headers: Mapping[str, str]) -> DownloaderError:
    """Add the wait that the object store asks for to the details of `error`, and return it.

    The wait is `retry_after`, in seconds, at most an hour. Nothing is added if `headers` have no
    valid Retry-After. Names of `headers` are in lower case. Source: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    try:
        if value.isascii() and value.isdigit():
            seconds = float(value)
        else:
            until = parsedate_to_datetime(value)
            seconds = (until - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (TypeError, ValueError):
        return error
    if seconds > 0:
        error.details["retry_after"] = min(seconds, _LONGEST)
    return error
