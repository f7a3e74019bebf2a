"""Decides what a response proves, by its status, its headers and its first bytes.

These are pure functions. Missing information never counts as agreement. Names of headers are in
lower case.

Sources: HeadObject and GetObject in the Amazon S3 API reference; RFC 9110, sections 8.6
(Content-Length) and 14.4 (Content-Range); RFC 6585, section 6 (a network that requires a login).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ...core import validators
from ...core.errors import DownloaderError, ErrorCode

__all__ = [
    "EMPTY_MD5",
    "check_object",
    "contradicts_empty",
    "foreign_error",
    "has_validator",
    "is_foreign",
    "is_from_store",
    "is_page",
    "length",
    "number",
    "redirect_target",
    "total",
]

EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
"""The MD5 of no bytes. Most object stores give it as the ETag of an empty object."""

_OBJECT = (200, 206)
_LOGIN_REQUIRED = 511
_LARGEST = (1 << 63) - 1
_DIGEST = re.compile(r"[0-9a-f]{32}(-\d+)?", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)", re.IGNORECASE)
_PAGE_TYPES = ("text/html", "application/xhtml")
_TEXT_TYPES = ("text/", "application/json", "application/problem+json")
_PAGE_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)


def number(text: str | None) -> int | None:
    """Return the size in bytes that `text` has as decimal digits, None for any other text."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > len(str(_LARGEST)):
        return None
    value = int(text)
    return value if value <= _LARGEST else None


def length(headers: Mapping[str, str]) -> int | None:
    """Return the length of the body in bytes, None if Content-Length is missing or invalid."""
    return number(headers.get("content-length", "").strip())


def total(headers: Mapping[str, str]) -> int | None:
    """Return the size of the object in bytes, None if Content-Range is missing or has no size."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    return number(match[1]) if match else None


def has_validator(headers: Mapping[str, str], validator: str) -> bool:
    """Return whether a response has the validator `validator`.

    False if `validator` is empty, because then there is nothing to compare.
    """
    if validators.is_date(validator):
        date = headers.get("last-modified", "")
        return validators.same(validators.from_headers({"last-modified": date}), validator)
    return validators.same(validators.from_headers(headers), validator)


def contradicts_empty(headers: Mapping[str, str]) -> bool:
    """Return whether the ETag is an MD5 of at least one byte, so that the object is not empty."""
    validator = validators.from_headers(headers).lower()
    return re.fullmatch("[0-9a-f]{32}", validator) is not None and validator != EMPTY_MD5


def is_from_store(headers: Mapping[str, str]) -> bool:
    """Return whether a response has a header of an object store, such as x-amz-request-id.

    Not every object store sends such headers.
    """
    return any(name.startswith("x-amz") for name in headers)


def is_page(headers: Mapping[str, str], head: bytes = b"") -> bool:
    """Return whether a response is a web page, by its type or by the `head` of its body."""
    kind = headers.get("content-type", "").strip().lower()
    return kind.startswith(_PAGE_TYPES) or _PAGE_BEGINS.match(head) is not None


def _is_text(headers: Mapping[str, str]) -> bool:
    """Return whether a response is text, which servers of any kind may send to any request."""
    return headers.get("content-type", "").strip().lower().startswith(_TEXT_TYPES)


def is_foreign(
    status: int, headers: Mapping[str, str], *, validator: str = "", head: bytes = b""
) -> bool:
    """Return whether the response to a request for an object cannot come from the object store.

    Such responses come from a network that requires a login, from a proxy, or from another server.
    `validator` is that of the object in its listing, empty if not known. An object may be a web
    page; it is accepted if the response has the validator. `head` is the beginning of the body.
    """
    if status == _LOGIN_REQUIRED:
        return True
    if is_from_store(headers):
        return False
    if status not in _OBJECT:
        return status < 400 or (status < 500 and is_page(headers, head))
    if has_validator(headers, validator):
        return False
    own = validators.from_headers(headers)
    if is_page(headers, head):
        return bool(validator) or not _DIGEST.fullmatch(own)
    size = length(headers) or total(headers)
    return not own and (not size or _is_text(headers))


def check_object(
    status: int, headers: Mapping[str, str], subject: str, *, validator: str = "", head: bytes = b""
) -> None:
    """Raise NETWORK_UNREACHABLE if the response is not an object, or a part of one.

    The parameters are those of `is_foreign`; `subject` names the object in the error.
    """
    if status not in _OBJECT or is_foreign(status, headers, validator=validator, head=head):
        raise foreign_error(subject, status, headers)


def foreign_error(
    subject: str, status: int, headers: Mapping[str, str] | None = None
) -> DownloaderError:
    """Return the error for a response that does not come from the object store.

    `subject` is what was requested, such as `s3://bucket/key`.
    """
    where = redirect_target(headers or {})
    cause = f"status {status}" + (f", pointing to {where}" if where else "")
    kind = (headers or {}).get("content-type", "").partition(";")[0].strip()
    cause += f", {kind[:60]}" if kind else ""
    return DownloaderError(
        ErrorCode.NETWORK_UNREACHABLE,
        f"something between the device and the object store responds for {subject} ({cause}); check"
        " for a network that requires a login, a proxy, or an EndpointUrl of another server",
        cause=cause,
        status=status,
    )


def redirect_target(headers: Mapping[str, str]) -> str:
    """Return the target of a redirect, empty for none.

    Without user, query and fragment, because they may contain secrets.
    """
    try:
        url = urlsplit(headers.get("location", ""))
        host = url.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return f"{url.scheme}://{host}{url.path}"[:200] if host else url.path[:200]
