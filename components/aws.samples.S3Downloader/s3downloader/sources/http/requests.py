"""A request over HTTP and what comes of it: what a source and the transport tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

__all__ = ["CHUNK_BYTES", "Collector", "Completion", "HttpRequest", "ResponseHead", "StopReading"]

CHUNK_BYTES = 96 << 10
"""The bytes that are handed over at once at most, unless a request says otherwise: what the caches
of a processor hold for a few connections."""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is ready to be sent.

    `host` has the port where the URL names one; `path` has the query, both percent-encoded;
    `headers` are signed, if they need to be. Errors name it by its `subject`, such as
    `s3://bucket/key`. Its body is handed over in chunks of at most `chunk_bytes`.
    """

    method: str
    scheme: str
    host: str
    path: str
    headers: Mapping[str, str]
    subject: str
    chunk_bytes: int = CHUNK_BYTES


class ResponseHead(NamedTuple):
    """The status of a response, and its headers with their names in lower case."""

    status: int
    headers: Mapping[str, str]


class Completion(NamedTuple):
    """How a response came to its end."""

    first_byte: float
    """The seconds from the request to the head of the response."""
    is_delimited: bool
    """Whether the body ended where the response says, rather than with the connection."""


class StopReading(Exception):
    """Raised where nothing more of a body is wanted; the request ends as if it had come to its end.

    Its connection is not kept.
    """


class Collector:
    """Keeps a response in memory, and stops reading a body of more than `limit` bytes.

    The body may have up to a chunk more than that.
    """

    def __init__(self, limit: int) -> None:
        self.head = ResponseHead(0, {})
        self.body = bytearray()
        self._limit = limit

    def on_headers(self, head: ResponseHead) -> None:
        """Keep the status and the headers."""
        self.head = head

    def on_chunk(self, chunk: memoryview) -> None:
        """Keep more of the body. Raises StopReading."""
        self.body += chunk
        if len(self.body) > self._limit:
            raise StopReading
