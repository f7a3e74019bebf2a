"""Checks from status and headers whether the response to a GET of an object is the one requested.

Missing information never counts as agreement. The response must carry the requested validator. It
must also say which bytes it contains, or contain the complete object and end with the right size.

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
_LOGIN_STATUSES = {301, 302, 303, 307, 308, 511}  # of a network that requires a login


class ObjectRequest(msgspec.Struct, frozen=True):
    """A GET of an object.

    - `subject` names the object, such as `s3://bucket/key`.
    - `validator` is the validator that the response must have, empty for any.
    - `size` is the size of the object in its listing, in bytes.
    - `span` is the requested range: the offset of its first byte, and the offset after its last
      byte. None requests the complete object, without Range.
    """

    subject: str
    validator: str
    size: int
    span: tuple[int, int] | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """The offset of the first requested byte, and the offset after the last one."""
        return self.span or (0, self.size)


class Body(NamedTuple):
    """The body of a valid response: exactly the requested bytes."""

    length: int
    """The number of bytes."""
    has_length: bool
    """Whether the response gives the length of the body before the body."""
    has_position: bool
    """Whether the position of each byte in the object is known, also in an incomplete body."""


class RangesIgnoredError(DownloaderError):
    """The object store responds to a request for a range with other bytes (ENGINE_FAILED)."""

    def __init__(self, requested: ObjectRequest, cause: str) -> None:
        super().__init__(
            ErrorCode.ENGINE_FAILED,
            f"the object store responds to a request for a range of {requested.subject} with other"
            " bytes; configure it to support Range",
            cause=cause,
        )


def check_response(status: int, headers: Mapping[str, str], requested: ObjectRequest) -> Body:
    """Return the properties of the body of a response with status 200 or 206.

    Names of `headers` are in lower case. Raises:

    - NETWORK_UNREACHABLE if something other than the object store responds
    - SOURCE_CHANGED for another validator
    - ENCODING_CHANGED for an encoding that is not the object's own
    - SIZE_MISMATCH for a size that differs from the listing
    - RangesIgnoredError for other bytes than the requested ones
    """
    _check_origin(status, headers, requested)
    if requested.validator and not responses.has_validator(headers, requested.validator):
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
    has_length = length is not None and "transfer-encoding" not in headers
    return Body(expected, has_length, has_length or status == 206)


def check_refusal(status: int, code: str, requested: ObjectRequest) -> None:
    """Raise NETWORK_UNREACHABLE for a refusal that does not come from the object store.

    `code` is the object store's code of the error, empty for none.
    """
    if status in _LOGIN_STATUSES and not code:
        raise responses.foreign_error(requested.subject, status)


def too_long(requested: ObjectRequest) -> DownloaderError:
    """Return the error for a body with more bytes than were requested."""
    return _size_mismatch(requested, "more bytes than were requested")


def too_short(requested: ObjectRequest, missing: int) -> DownloaderError:
    """Return the error for a body that ends `missing` bytes too early by its own framing."""
    return _size_mismatch(requested, f"{missing} bytes too few")


def _check_origin(status: int, headers: Mapping[str, str], requested: ObjectRequest) -> None:
    """Raise NETWORK_UNREACHABLE if the response has none of the headers of an object.

    A login page has a status of success, so the status alone does not show it.
    """
    is_named = bool(validators.from_headers(headers))
    is_page = responses.is_page(headers) and not requested.subject.lower().endswith(_HTML_KEYS)
    if requested.validator:
        has_validator = responses.has_validator(headers, requested.validator)
        is_strange = not is_named or (is_page and not has_validator)
    else:
        is_strange = is_page or not (is_named or headers.keys() & {"content-length"})
    if is_strange:
        raise responses.foreign_error(requested.subject, status, headers)


def _content_length(
    status: int, headers: Mapping[str, str], requested: ObjectRequest
) -> int | None:
    length = responses.length(headers)
    if length is None and "content-length" in headers:
        raise responses.foreign_error(requested.subject, status, headers)
    return length


def _check_encoding(
    headers: Mapping[str, str], requested: ObjectRequest, length: int | None, expected: int
) -> None:
    """Raise ENCODING_CHANGED if the body was encoded in transit.

    An object may be stored in an encoding, which its headers name. Then the body has the listed
    size. If it was encoded in transit, it has another size, or no known size.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    transfer = headers.get("transfer-encoding", "").strip().lower()
    if transfer not in ("", "chunked"):
        encoding = transfer
    elif encoding in ("", "identity", "aws-chunked") or length == expected:
        return
    raise DownloaderError(
        ErrorCode.ENCODING_CHANGED,
        f"{requested.subject} arrives encoded as {encoding[:40]}, with other bytes than the object"
        " has; make sure that no proxy between the device and the object store compresses it",
        encoding=encoding[:40],
    )


def _check_range(headers: Mapping[str, str], requested: ObjectRequest) -> None:
    """Raise RangesIgnoredError for another range, SIZE_MISMATCH for another size of the object."""
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
        f"{requested.subject} was replaced while it was fetched; what has arrived of it is deleted",
    )


def _size_mismatch(requested: ObjectRequest, cause: str) -> DownloaderError:
    return DownloaderError(
        ErrorCode.SIZE_MISMATCH,
        f"the object store responds for {requested.subject} with {cause}, but the object has"
        f" {requested.size} bytes in its listing; make sure that no proxy changes it, then resume",
        cause=cause,
    )
