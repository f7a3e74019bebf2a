"""Whether the answer to a GET of an object is what was asked for, told from status and headers.

What an answer leaves out is never taken for agreement: it must name the object by its validator,
and say which bytes of it follow, or be a whole answer that comes to its end with the right size.

Sources: RFC 9110, sections 8.4 (content codings), 8.6 (Content-Length), 14.4 (Content-Range) and
15.3.7 (206); RFC 9112, section 6.3 (the length of a body).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ...core import validators
from ...core.errors import DownloaderError, ErrorCode
from ...sources.s3 import responses

__all__ = [
    "Body",
    "ObjectRequest",
    "RangesIgnoredError",
    "check_refusal",
    "check_response",
    "too_long",
    "too_short",
]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.IGNORECASE)
_HTML_KEYS = (".html", ".htm", ".xhtml")
_CODES_OF_PORTALS = {301, 302, 303, 307, 308, 511}


class ObjectRequest(msgspec.Struct, frozen=True):
    """A GET of the object `subject`, such as `s3://bucket/key`, of `size` bytes by its listing.

    `validator` is what it must have, empty for nothing. `span` are the first byte that was asked
    for and the one after the last; None without a Range.
    """

    subject: str
    validator: str
    size: int
    span: tuple[int, int] | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """The first byte that the answer is to bring, and the one after the last."""
        return self.span or (0, self.size)


class Body(NamedTuple):
    """What the body of a good answer is: `length` bytes, exactly those that were asked for."""

    length: int
    is_framed: bool
    """Whether the length is told before the body, so that its end shows by itself."""
    is_placed: bool
    """Whether the answer tells which bytes of the object these are, so that a part is of use."""


class RangesIgnoredError(DownloaderError):
    """The store answers a request for a range with other bytes than those."""

    def __init__(self, requested: ObjectRequest, cause: str) -> None:
        super().__init__(
            ErrorCode.ENGINE_FAILED,
            f"the store answers a request for a range of {requested.subject} with other bytes; it"
            " must heed Range, or be asked for whole objects only",
            cause=cause,
        )


def check_response(status: int, headers: Mapping[str, str], requested: ObjectRequest) -> Body:
    """Return what the body of an answer with status 200 or 206 is.

    `headers` have their names in lower case. Raises NETWORK_UNREACHABLE where something else than
    the store answers, SOURCE_CHANGED for another object or version, ENCODING_CHANGED for bytes in
    another form than the object's, SIZE_MISMATCH for a size that is not the listed one, and
    RangesIgnoredError for other bytes than those asked for.
    """
    _check_origin(status, headers, requested)
    if requested.validator and not responses.agrees(headers, requested.validator):
        raise _changed(requested)
    length = _content_length(status, headers, requested)
    start, end = requested.bounds
    is_whole = status != 206 and (start, end) != (0, requested.size)
    expected = requested.size if is_whole else end - start
    _check_encoding(headers, requested, length, expected)
    if status == 206:
        _check_range(headers, requested)
    if length not in (None, expected):
        raise _size_mismatch(requested, f"{length} instead of {expected} bytes")
    if is_whole:
        raise RangesIgnoredError(requested, f"status {status}")
    is_framed = length is not None and "transfer-encoding" not in headers
    return Body(expected, is_framed, is_framed or status == 206)


def check_refusal(status: int, code: str, requested: ObjectRequest) -> None:
    """Raise NETWORK_UNREACHABLE for an answer without success that is no store's.

    `code` is the name that it gives its error, empty for none.
    """
    if status in _CODES_OF_PORTALS and not code:
        raise responses.foreign(requested.subject, status)


def too_long(requested: ObjectRequest) -> DownloaderError:
    """Return the error for a body with more bytes than were asked for."""
    return _size_mismatch(requested, "more bytes than were asked for")


def too_short(requested: ObjectRequest, missing: int) -> DownloaderError:
    """Return the error for a body that ends, and says so, before it should."""
    return _size_mismatch(requested, f"{missing} bytes too few")


def _check_origin(status: int, headers: Mapping[str, str], requested: ObjectRequest) -> None:
    """A page to log in at has a status of success, and none of what a store tells of an object."""
    is_named = bool(validators.from_headers(headers))
    is_page = responses.is_page(headers) and not requested.subject.lower().endswith(_HTML_KEYS)
    if requested.validator:
        agrees = responses.agrees(headers, requested.validator)
        is_strange = not is_named or (is_page and not agrees)
    else:
        is_strange = is_page or not (is_named or headers.keys() & {"content-length"})
    if is_strange:
        raise responses.foreign(requested.subject, status, headers)


def _content_length(
    status: int, headers: Mapping[str, str], requested: ObjectRequest
) -> int | None:
    length = responses.length(headers)
    if length is None and "content-length" in headers:
        raise responses.foreign(requested.subject, status, headers)
    return length


def _check_encoding(
    headers: Mapping[str, str], requested: ObjectRequest, length: int | None, expected: int
) -> None:
    """Bytes that were stored in an encoding have the listed size; what is encoded on the way not.

    The metadata of an object may name the encoding in which it was stored.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    transfer = headers.get("transfer-encoding", "").strip().lower()
    if transfer not in ("", "chunked"):
        encoding = transfer
    elif encoding in ("", "identity", "aws-chunked") or length == expected:
        return
    raise DownloaderError(
        ErrorCode.ENCODING_CHANGED,
        f"{requested.subject} comes encoded as {encoding[:40]}, and not with the bytes that its"
        " listing tells of; see that no proxy between the device and the store compresses",
        encoding=encoding[:40],
    )


def _check_range(headers: Mapping[str, str], requested: ObjectRequest) -> None:
    content_range = headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    start, end = requested.bounds
    if not match or (int(match[1]), int(match[2]) + 1) != (start, end):
        kind = headers.get("content-type", "")
        raise RangesIgnoredError(requested, content_range or f"206 without Content-Range, {kind}")
    if match[3] not in ("*", str(requested.size)):
        raise _size_mismatch(requested, f"a size of {match[3]} bytes")


def _changed(requested: ObjectRequest) -> DownloaderError:
    return DownloaderError(
        ErrorCode.SOURCE_CHANGED,
        f"{requested.subject} was replaced while it was fetched; what is there of it is given up",
    )


def _size_mismatch(requested: ObjectRequest, cause: str) -> DownloaderError:
    return DownloaderError(
        ErrorCode.SIZE_MISMATCH,
        f"the store answers for {requested.subject} with {cause}, and by its listing the object has"
        f" {requested.size}; see that no proxy changes it, then resume",
        cause=cause,
    )
