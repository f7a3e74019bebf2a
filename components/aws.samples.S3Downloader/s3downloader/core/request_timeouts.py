"""What must come of a response in time, and how long a store asks to be left alone."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from .errors import DownloaderError

__all__ = ["LEAST_BYTES", "with_retry_after"]

LEAST_BYTES = 1 << 10
"""What must come at least in the time for which a store may be silent.

Less than a packet: 64 connections share a link of 20 kbit/s, and none of them falls below.
"""

_LONGEST = 3_600.0


def with_retry_after(error: DownloaderError, headers: Mapping[str, str]) -> DownloaderError:
    """Add to an error for how many seconds the store asks to be left alone, as `retry_after`.

    That is at most an hour. Nothing is added where it does not ask. Names of `headers` are in
    lower case. Source: RFC 9110, section 10.2.3.
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
