"""What lies under a prefix: ListObjectsV2, page by page, until the store says that this is all.

A page that does not lead on is no end: a plan made from a part of a listing would publish a part
of a model. Where a store's tokens lead nowhere the last key does, in stores that list in order;
where neither helps, LISTING_INCOMPLETE tells so.

Source: ListObjectsV2 in the Amazon S3 API reference, with its differences for directory buckets,
which list in no order and know no StartAfter.
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
from .refusals import explained, refusal

__all__ = ["MOST_KEYS", "Listed", "Listing", "Page", "page_of"]

log = logging.getLogger(__name__)

MOST_KEYS = 1_000
"""The most keys that S3 lists at once."""

_PAGE_BYTES = 8 << 20  # a thousand keys of 1,024 bytes, each byte encoded as three, and the rest
_MOST_EMPTY = 100  # empty pages in a row, as of a store that skips what was deleted
_DAMAGED = "\N{REPLACEMENT CHARACTER}"


class Listed(NamedTuple):
    """An object as a listing tells of it; its validator may be empty."""

    key: str
    size: int | None
    """None where the listing has no proper size."""
    validator: str
    modified: float | None = None
    """Seconds since the epoch; None where the listing has no proper date."""


class Page(NamedTuple):
    """A page of a listing."""

    objects: list[Listed]
    is_truncated: bool | None
    """Whether there is more; None where the page does not say."""
    token: str
    """What asks for the next page, empty for none."""


class Listing:
    """One way through the objects under a prefix. Holds a page, and 200 bytes for each before it.

    `ask` returns the page that a request asks for.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Page]],
        bucket: str,
        prefix: str,
        *,
        start_after: str = "",
        most: int = MOST_KEYS,
    ) -> None:
        self._ask = ask
        self._bucket = bucket
        self._prefix = prefix
        self._most = most
        self._start_after = start_after
        self._token = ""
        self._last = start_after
        self._is_ordered = True
        self._empty = 0
        self._seen: set[int] = set()
        """Hashes of the tokens and pages that there were."""

    async def pages(self) -> AsyncIterator[list[Listed]]:
        """Go through the pages; raise LISTING_INCOMPLETE, and what `ask` raises."""
        more = True
        while more:
            page = await self._next_page()
            repeats = self._is_repeated(*_first_and_last(page.objects))
            objects = [] if repeats else self._take(page.objects)
            more = self._has_next(page, repeats)
            yield objects

    async def _next_page(self) -> Page:
        """Return the next page; where the store does not take its own token, by the last key."""
        request = self._request()
        try:
            return await self._ask(request)
        except DownloaderError as error:
            if not (self._token and _is_bad_request(error) and self._continue_after_last()):
                raise
            log.warning("%s: the store refused its own token: %s", request.subject, error)
        return await self._ask(self._request())

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
        """Return the objects of a page but for the one that it was to begin after."""
        taken = []
        for listed in objects:
            if not listed.key.startswith(self._prefix):
                raise self._incomplete(f"it tells of {listed.key!r}, which is not under the prefix")
            if listed.key < self._start_after:
                raise self._incomplete(f"it does not go on after the key {self._start_after!r}")
            if listed.key == self._last:
                continue
            self._is_ordered = self._is_ordered and listed.key > self._last
            self._last = listed.key
            taken.append(listed)
        return taken

    def _has_next(self, page: Page, repeats: bool) -> bool:
        """Tell whether there are more pages, and be ready for the next."""
        says_nothing = page.is_truncated is None and not page.objects and not page.token
        if not repeats and (page.is_truncated is False or says_nothing):
            return False
        self._empty = 0 if page.objects else self._empty + 1
        if not repeats and self._empty <= _MOST_EMPTY and self._is_sound(page.token):
            self._token = page.token
            return True
        if self._continue_after_last():
            return True
        why = "its pages repeat, or do not lead to the next"
        raise self._incomplete(f"{why}, after the key {self._last!r}" if self._last else why)

    def _is_sound(self, token: str) -> bool:
        """Tell whether a token is one that can lead on, and was not there before.

        A store may put the replacement character for what its XML cannot carry: such a token
        would lead past keys.
        """
        return bool(token) and _DAMAGED not in token and not self._is_repeated(token)

    def _is_repeated(self, *marks: str) -> bool:
        """Tell whether a token, or the ends of a page, were there before, and remember them."""
        seen = bool(marks) and hash(marks) in self._seen
        self._seen.add(hash(marks))
        return seen

    def _continue_after_last(self) -> bool:
        """Have the next page begin after the last key, if there is one that was not tried yet."""
        if not self._is_ordered or self._last == self._start_after:
            return False
        self._token, self._start_after = "", self._last
        return True

    def _incomplete(self, why: str) -> DownloaderError:
        return _incomplete(f"s3://{self._bucket}/{self._prefix}", why)


def page_of(response: Response, request: Request) -> Page:
    """Return the page that is an answer.

    Raises NETWORK_UNREACHABLE where it is none of a store, what an error in its place means,
    LISTING_INCOMPLETE where it cannot be read to its end, and UNSAFE_KEY.
    """
    if response.status != 200:
        raise responses.foreign(request.subject, response.status, response.headers)
    if len(response.body) > request.limit:
        raise _incomplete(request.subject, f"a page of it has more than {request.limit} bytes")
    try:
        root = documents.parse(response.body)
    except documents.NotXmlError as error:
        if b"ListBucketResult" not in response.body[:1_024]:
            raise responses.foreign(request.subject, response.status, response.headers) from error
        raise _incomplete(request.subject, f"a page of it cannot be read: {error}") from error
    if root.tag == "Error":
        refused = refusal(response.status, response.headers, response.body)
        raise explained(refused, request.subject, of_bucket=True)
    if root.tag != "ListBucketResult":
        raise responses.foreign(request.subject, response.status, response.headers)
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
    """Return what a listing tells of an object."""
    fields = {below.tag: below.text or "" for below in element}
    name = fields.get("Key", "")
    try:
        key = unquote_plus(name, errors="strict") if encoded else name
    except UnicodeDecodeError:
        raise DownloaderError(
            ErrorCode.UNSAFE_KEY,
            f"the key {name!r} under {request.subject} is not UTF-8; rename the object or leave it"
            " out of the prefix",
            key=name,
        ) from None
    if not key:
        raise _incomplete(request.subject, "it tells of an object without a key")
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
        f"the store does not list all of {subject}: {why}; have the store mended, or fetch the"
        " objects one by one",
    )
