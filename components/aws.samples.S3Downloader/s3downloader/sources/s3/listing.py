"""Lists the objects under a prefix with ListObjectsV2, page by page.

A listing ends only when the object store says that it is complete. Otherwise a plan could miss
objects, and an incomplete model would be published. If a continuation token does not work, the
listing continues after the last key, provided that keys came in order. If that does not work
either, LISTING_INCOMPLETE is raised.

Source: ListObjectsV2 in the Amazon S3 API reference. Directory buckets differ: they list in no
order, and do not support StartAfter.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote, unquote_plus
from xml.etree.ElementTree import Element

from ...core import validators
from ...core.errors import DownloaderError, ErrorCode
from . import documents, responses
from .client import Request, Response
from .refusals import refusal, refusal_error

__all__ = ["MOST_KEYS", "Listed", "Listing", "Page", "page_of"]

log = logging.getLogger(__name__)

MOST_KEYS = 1_000
"""The most keys on one page of S3."""

_PAGE_BYTES = 8 << 20  # 1,000 keys of 1,024 bytes, percent-encoded as three bytes each, and more
_MOST_EMPTY = 100  # empty pages in a row, which an object store may send for deleted objects
_DAMAGED = "\N{REPLACEMENT CHARACTER}"


class Listed(NamedTuple):
    """An object in a listing. Its validator is empty if the listing has none."""

    key: str
    size: int | None
    """In bytes; None if the listing has no valid size."""
    validator: str
    modified: float | None = None
    """Seconds since the epoch; None if the listing has no valid date."""


class Page(NamedTuple):
    """A page of a listing."""

    objects: list[Listed]
    is_truncated: bool | None
    """Whether there are more pages; None if the page does not say."""
    token: str
    """The continuation token for the next page, empty for none."""


class Listing:
    """Reads one listing of the objects under a prefix.

    `send` sends a request and returns the page. Keeps one page in memory, and about 200 bytes for
    each earlier page.
    """

    def __init__(
        self,
        send: Callable[[Request], Awaitable[Page]],
        bucket: str,
        prefix: str,
        *,
        start_after: str = "",
        most: int = MOST_KEYS,
    ) -> None:
        self._send = send
        self._bucket = bucket
        self._prefix = prefix
        self._most = most
        self._start_after = start_after
        self._token = ""
        self._last = start_after
        self._is_ordered = True
        self._empty = 0
        self._seen: set[int] = set()
        """Hashes of all earlier tokens, and of the first and last keys of all earlier pages."""

    async def pages(self) -> AsyncIterator[list[Listed]]:
        """Yield the pages. Raises LISTING_INCOMPLETE, and what `send` raises."""
        more = True
        while more:
            page = await self._next_page()
            repeats = self._is_repeated(*_first_and_last(page.objects))
            objects = [] if repeats else self._take(page.objects)
            more = self._has_next(page, repeats)
            yield objects

    async def _next_page(self) -> Page:
        """Return the next page, by the token, or by the last key if the token is refused."""
        request = self._request()
        try:
            return await self._send(request)
        except DownloaderError as error:
            if not (self._token and _is_bad_request(error) and self._continue_after_last()):
                raise
            log.warning("%s: the object store refused its own token: %s", request.subject, error)
        return await self._send(self._request())

    def _request(self) -> Request:
        parameters = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": str(self._most),
            "prefix": self._prefix,
            "continuation-token": self._token,
            "start-after": "" if self._token else self._start_after,
        }
        query = "&".join(
            f"{name}={quote(value, safe='')}" for name, value in parameters.items() if value
        )
        return Request(
            method="GET",
            bucket=self._bucket,
            key="",
            prefix=self._prefix,
            query=query,
            limit=_PAGE_BYTES,
        )

    def _take(self, objects: list[Listed]) -> list[Listed]:
        """Return the objects of a page, without the one after which it should begin.

        Raises LISTING_INCOMPLETE for a key that cannot be on this page.
        """
        taken = []
        for listed in objects:
            if not listed.key.startswith(self._prefix):
                raise self._incomplete(f"it lists {listed.key!r}, which is not under the prefix")
            if listed.key < self._start_after:
                raise self._incomplete(f"it does not continue after the key {self._start_after!r}")
            if listed.key == self._last:
                continue
            self._is_ordered = self._is_ordered and listed.key > self._last
            self._last = listed.key
            taken.append(listed)
        return taken

    def _has_next(self, page: Page, repeats: bool) -> bool:
        """Return whether there is another page, and prepare the request for it.

        Raises LISTING_INCOMPLETE if the listing has not ended, and cannot be continued.
        """
        says_nothing = page.is_truncated is None and not page.objects and not page.token
        if not repeats and (page.is_truncated is False or says_nothing):
            return False
        self._empty = 0 if page.objects else self._empty + 1
        if not repeats and self._empty <= _MOST_EMPTY and self._is_sound(page.token):
            self._token = page.token
            return True
        if self._continue_after_last():
            return True
        why = "its pages repeat, or give no way to the next page"
        raise self._incomplete(f"{why}, after the key {self._last!r}" if self._last else why)

    def _is_sound(self, token: str) -> bool:
        """Return whether a token can be used: it is not empty, not damaged, and not repeated.

        Some object stores write the replacement character for characters that XML cannot contain.
        Such a damaged token would skip keys.
        """
        return bool(token) and _DAMAGED not in token and not self._is_repeated(token)

    def _is_repeated(self, *marks: str) -> bool:
        """Return whether these marks have been seen before, and remember them.

        The marks are a token, or the first and last keys of a page.
        """
        seen = bool(marks) and hash(marks) in self._seen
        self._seen.add(hash(marks))
        return seen

    def _continue_after_last(self) -> bool:
        """Make the next page begin after the last key. Return whether that is possible.

        It is not, if keys did not come in order, or if the last key has already been tried.
        """
        if not self._is_ordered or self._last == self._start_after:
            return False
        self._token, self._start_after = "", self._last
        return True

    def _incomplete(self, why: str) -> DownloaderError:
        return _incomplete(f"s3://{self._bucket}/{self._prefix}", why)


def page_of(response: Response, request: Request) -> Page:
    """Return the page in a response.

    Raises NETWORK_UNREACHABLE if the response does not come from the object store,
    LISTING_INCOMPLETE if the page cannot be read completely, UNSAFE_KEY for a key that is not
    UTF-8, and the error of an `Error` document with status 200.
    """
    if response.status != 200:
        raise responses.foreign_error(request.subject, response.status, response.headers)
    if len(response.body) > request.limit:
        raise _incomplete(request.subject, f"a page of it has more than {request.limit} bytes")
    try:
        root = documents.parse(response.body)
    except documents.NotXmlError as error:
        if b"ListBucketResult" not in response.body[:1_024]:
            raise responses.foreign_error(
                request.subject, response.status, response.headers
            ) from error
        raise _incomplete(request.subject, f"a page of it cannot be read: {error}") from error
    if root.tag == "Error":
        refused = refusal(response.status, response.headers, response.body)
        raise refusal_error(refused, request.subject, of_bucket=True)
    if root.tag != "ListBucketResult":
        raise responses.foreign_error(request.subject, response.status, response.headers)
    encoded = (documents.child(root, "EncodingType") or "").lower() == "url"
    truncated = (documents.child(root, "IsTruncated") or "").strip().lower()
    return Page(
        [_listed(element, encoded, request) for element in documents.children(root, "Contents")],
        {"true": True, "false": False}.get(truncated),
        documents.child(root, "NextContinuationToken") or "",
    )


def _is_bad_request(error: DownloaderError) -> bool:
    return error.code is ErrorCode.ACCESS_DENIED and error.details.get("status") == 400


def _first_and_last(objects: list[Listed]) -> tuple[str, ...]:
    return (objects[0].key, objects[-1].key) if objects else ()


def _listed(element: Element, encoded: bool, request: Request) -> Listed:
    """Return the object in an element `Contents`."""
    fields = {below.tag: below.text or "" for below in element}
    name = fields.get("Key", "")
    try:
        key = unquote_plus(name, errors="strict") if encoded else name
    except UnicodeDecodeError:
        raise DownloaderError(
            ErrorCode.UNSAFE_KEY,
            f"the key {name!r} under {request.subject} is not UTF-8; rename the object, or choose a"
            " prefix without it",
            key=name,
        ) from None
    if not key:
        raise _incomplete(request.subject, "it lists an object without a key")
    modified = fields.get("LastModified", "")
    return Listed(
        key,
        responses.number(fields.get("Size", "").strip()),
        validators.from_listing(fields.get("ETag", ""), modified),
        validators.modified_from_listing(modified),
    )


def _incomplete(subject: str, why: str) -> DownloaderError:
    return DownloaderError(
        ErrorCode.LISTING_INCOMPLETE,
        f"the object store does not list all of {subject}: {why}; have the object store corrected,"
        " or fetch the objects one by one",
    )
