"""HTTP requests and the parts of their responses, as sources and the transport exchange them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

__all__ = ["CHUNK_BYTES", "Collector", "Completion", "HttpRequest", "ResponseHead", "StopReading"]

CHUNK_BYTES = 96 << 10
"""The largest chunk of a body in bytes, unless a request sets another.

Chunks of a few connections fit into the caches of a processor.
"""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is ready to be sent.

    - `host` includes the port if the URL has one.
    - `path` includes the query. Both are percent-encoded.
    - `headers` include the signature if the server needs one.
    - `subject` is what errors name, such as `s3://bucket/key`.
    - `chunk_bytes` is the largest size of a chunk in which the response's body is passed on.
    """

    method: str
    scheme: str
    host: str
    path: str
    headers: Mapping[str, str]
    subject: str
    chunk_bytes: int = CHUNK_BYTES


class ResponseHead(NamedTuple):
    """The status and the headers of a response. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]


class Completion(NamedTuple):
    """How a response began and ended."""

    first_byte: float
    """The seconds from sending the request to the end of the response's head."""
    is_delimited: bool
    """Whether the response itself said where its body ends. If not, the connection's end did."""


class StopReading(Exception):
    """Is raised by a callback that needs no more of the body.

    The request then ends without an error. Its connection is closed.
    """


class Collector:
    """Collects a response in memory, and stops reading after more than `limit` bytes of its body.

    `body` may exceed the limit by one chunk.
    """

    def __init__(self, limit: int) -> None:
        self.head = ResponseHead(0, {})
        self.body = bytearray()
        self._limit = limit

    def on_headers(self, head: ResponseHead) -> None:
        """Store the status and the headers."""
        self.head = head

    def on_chunk(self, chunk: memoryview) -> None:
        """Append a chunk to the body. Raises StopReading if the body exceeds the limit."""
        self.body += chunk
        if len(self.body) > self._limit:
            raise StopReading
