"""Reads and compares validators. A validator distinguishes the versions of an object.

A validator is a string: the ETag without quotation marks (a weak one keeps its `W/`), or the date
of the last change if there is no ETag, or an empty string. An ETag contains no spaces, but an HTTP
date does, so the two cannot be confused.

Sources: RFC 9110, sections 8.8 (validators) and 13.1 (conditional requests).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import format_datetime, parsedate_to_datetime

__all__ = [
    "conditions",
    "from_headers",
    "from_listing",
    "is_date",
    "is_digest",
    "modified_from_headers",
    "modified_from_listing",
    "same",
]

_WEAK = "W/"
_DIGEST = re.compile(r"[0-9a-fA-F]{32}(-[0-9]+)?")


def from_headers(headers: Mapping[str, str]) -> str:
    """Return the validator in a response's headers, empty for none.

    Names of `headers` are in lower case.
    """
    return _etag(headers.get("etag", "")) or _date(headers.get("last-modified", ""))


def from_listing(etag: str, modified: str) -> str:
    """Return the validator of a listed object, empty for none.

    `etag` and `modified` are ETag and LastModified (ISO 8601) in the listing. Each may be empty.
    """
    if found := _etag(etag):
        return found
    listed = _iso_date(modified)
    return _http_date(listed) if listed else ""


def modified_from_headers(headers: Mapping[str, str]) -> float | None:
    """Return the Last-Modified of a response in seconds since the epoch, None for none."""
    moment = _header_date(headers.get("last-modified", ""))
    return moment.timestamp() if moment else None


def modified_from_listing(modified: str) -> float | None:
    """Return a listing's LastModified (ISO 8601) in seconds since the epoch, None for none."""
    moment = _iso_date(modified)
    return moment.timestamp() if moment else None


def is_date(validator: str) -> bool:
    """Tell whether a validator is the date of the last change, in whole seconds."""
    return " " in validator


def is_digest(validator: str) -> bool:
    """Tell whether a validator has the form of a digest of the content.

    Equal digests mean equal content, even of different objects. Other validators, such as dates,
    only distinguish versions of the same object.
    """
    return bool(_DIGEST.fullmatch(validator.removeprefix(_WEAK)))


def same(one: str, other: str) -> bool:
    """Tell whether two validators mean the same version of an object. Weak ETags count.

    An empty validator proves nothing: it is never the same as another one, even an empty one.
    """
    return bool(one) and one.removeprefix(_WEAK) == other.removeprefix(_WEAK)


def conditions(validator: str) -> dict[str, str]:
    """Return the headers with which a request succeeds only for that version of the object.

    There are none for an empty validator, nor for a weak ETag, which If-Match never matches. Then
    compare the validator of the response.
    """
    if is_date(validator):
        return {"if-unmodified-since": validator}
    if not validator or validator.startswith(_WEAK):
        return {}
    return {"if-match": f'"{validator}"'}


def _etag(value: str) -> str:
    value = value.strip()
    weak = _WEAK if value.startswith(_WEAK) else ""
    opaque = value.removeprefix(_WEAK).strip('"')
    return weak + opaque if opaque and " " not in opaque else ""


def _date(value: str) -> str:
    moment = _header_date(value)
    return _http_date(moment) if moment else ""


def _header_date(value: str) -> datetime | None:
    try:
        return _in_utc(parsedate_to_datetime(value))
    except (TypeError, ValueError):
        return None


def _iso_date(value: str) -> datetime | None:
    try:
        return _in_utc(datetime.fromisoformat(value.replace("Z", "+00:00")))
    except ValueError:
        return None


def _in_utc(moment: datetime) -> datetime:
    """Return the time with UTC as its time zone, if it has none."""
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(timezone.utc).replace(microsecond=0), usegmt=True)
