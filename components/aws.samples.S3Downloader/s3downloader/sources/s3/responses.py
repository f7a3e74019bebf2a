"""What a store's answer proves, by its status, its headers and its first bytes.

Here, above whatever carries the requests, and without any input or output. Nothing that an answer
leaves out counts as agreement. Names of headers are in lower case.

Sources: HeadObject and GetObject in the Amazon S3 API reference; RFC 9110, sections 8.6
(Content-Length) and 14.4 (Content-Range); RFC 6585, section 6 (a network that wants a login).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ...core import validators
from ...core.errors import DownloaderError, ErrorCode

__all__ = [
    "EMPTY_MD5",
    "agrees",
    "check_object",
    "contradicts_empty",
    "foreign",
    "is_foreign",
    "is_from_store",
    "is_page",
    "length",
    "number",
    "redirect_target",
    "total",
]

EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
"""The MD5 of nothing, which the ETag of an empty object is in most stores."""

_OBJECT = (200, 206)
_WANTS_LOGIN = 511
_LARGEST = (1 << 63) - 1
_DIGEST = re.compile(r"[0-9a-f]{32}(-\d+)?", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)", re.IGNORECASE)
_PAGE_TYPES = ("text/html", "application/xhtml")
_TEXT_TYPES = ("text/", "application/json", "application/problem+json")
_PAGE_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)


def number(text: str | None) -> int | None:
    """Return a size in bytes from its decimal digits; None for anything else."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > len(str(_LARGEST)):
        return None
    value = int(text)
    return value if value <= _LARGEST else None


def length(headers: Mapping[str, str]) -> int | None:
    """Return the bytes of the answer's body, None where it does not tell them properly."""
    return number(headers.get("content-length", "").strip())


def total(headers: Mapping[str, str]) -> int | None:
    """Return the bytes of the whole object as Content-Range tells them, None where it does not."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    return number(match[1]) if match else None


def agrees(headers: Mapping[str, str], validator: str) -> bool:
    """Tell whether an answer is of the state of the object that has `validator`, and says so.

    False for an empty validator, by which nothing can be compared.
    """
    if validators.is_date(validator):
        date = headers.get("last-modified", "")
        return validators.same(validators.from_headers({"last-modified": date}), validator)
    return validators.same(validators.from_headers(headers), validator)


def contradicts_empty(headers: Mapping[str, str]) -> bool:
    """Tell whether an object that is said to be empty has the MD5 of something else as its ETag."""
    validator = validators.from_headers(headers).lower()
    return re.fullmatch("[0-9a-f]{32}", validator) is not None and validator != EMPTY_MD5


def is_from_store(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer has a header that only stores give, such as x-amz-request-id.

    A store that gives none may still be one.
    """
    return any(name.startswith("x-amz") for name in headers)


def is_page(headers: Mapping[str, str], head: bytes = b"") -> bool:
    """Tell whether an answer is a page for people, by its type or the `head` of its body."""
    kind = headers.get("content-type", "").strip().lower()
    return kind.startswith(_PAGE_TYPES) or _PAGE_BEGINS.match(head) is not None


def _is_text(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer is of a kind that a server of another kind may give to anything."""
    return headers.get("content-type", "").strip().lower().startswith(_TEXT_TYPES)


def is_foreign(
    status: int, headers: Mapping[str, str], *, validator: str = "", head: bytes = b""
) -> bool:
    """Tell whether the answer to a request for an object cannot be the store's own.

    Such are the pages of a network that wants a login, of a proxy and of a server of another kind.
    `validator` is what is known of the object from its listing: an object may be a page, and is
    one where the listing says the same. `head` is the beginning of the body, as far as it is there.
    """
    if status == _WANTS_LOGIN:
        return True
    if is_from_store(headers):
        return False
    if status not in _OBJECT:
        return status < 400 or (status < 500 and is_page(headers, head))
    if agrees(headers, validator):
        return False
    own = validators.from_headers(headers)
    if is_page(headers, head):
        return bool(validator) or not _DIGEST.fullmatch(own)
    size = length(headers) or total(headers)
    return not own and (not size or _is_text(headers))


def check_object(
    status: int, headers: Mapping[str, str], subject: str, *, validator: str = "", head: bytes = b""
) -> None:
    """Raise NETWORK_UNREACHABLE unless the answer is an object of the store, or a part of one."""
    if status not in _OBJECT or is_foreign(status, headers, validator=validator, head=head):
        raise foreign(subject, status, headers)


def foreign(subject: str, status: int, headers: Mapping[str, str] | None = None) -> DownloaderError:
    """Return the error for an answer on `subject` that is not the store's."""
    where = redirect_target(headers or {})
    cause = f"status {status}" + (f", pointing to {where}" if where else "")
    kind = (headers or {}).get("content-type", "").partition(";")[0].strip()
    cause += f", {kind[:60]}" if kind else ""
    return DownloaderError(
        ErrorCode.NETWORK_UNREACHABLE,
        f"something between the device and the store answers for {subject} ({cause}); look for a"
        " network that wants a login, a proxy, or an EndpointUrl that is no store's",
        cause=cause,
        status=status,
    )


def redirect_target(headers: Mapping[str, str]) -> str:
    """Return where a redirect points, without user, query and fragment, which may be secret."""
    try:
        url = urlsplit(headers.get("location", ""))
        host = url.netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return f"{url.scheme}://{host}{url.path}"[:200] if host else url.path[:200]
