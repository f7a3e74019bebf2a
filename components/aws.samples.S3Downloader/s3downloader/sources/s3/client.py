"""Requests to S3, signed, and asked again where a refusal tells how.

Source: "Error responses" in the Amazon S3 API reference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ...core.errors import DownloaderError
from ...core.request_timeouts import with_retry_after
from ..http.requests import CHUNK_BYTES, HttpRequest
from ..http.transport import Transport
from .credentials import Credentials, Keys
from .refusals import EXPIRED, Refusal, explained, refusal
from .signing import address, signed

__all__ = ["REFUSAL_BYTES", "TRIES", "Request", "Response", "S3Client"]

TRIES = 3
"""How often a request is made, where each response tells how to make the next."""

REFUSAL_BYTES = 1 << 16
"""As much is read at most of what a store says when it refuses."""

_AT_ONCE = 8


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an object, or for the bucket itself where `key` is empty.

    `query` is encoded already. Of an answer longer than `limit` bytes the rest is not read.
    `accelerate` takes the way of S3 Transfer Acceleration, which AWS alone has. `prefix` is what a
    listing asks for, for errors to name.
    """

    method: str
    bucket: str
    key: str
    query: str = ""
    headers: dict[str, str] = {}
    limit: int = REFUSAL_BYTES
    accelerate: bool = False
    prefix: str = ""

    @property
    def subject(self) -> str:
        return f"s3://{self.bucket}/{self.key or self.prefix}"


class Response(NamedTuple):
    """What the store answered; the names of `headers` are in lower case.

    The body ends soon after the request's limit where it is longer.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The name that the store gives its error, empty for none."""
        return self.refusal.code

    @property
    def refusal(self) -> Refusal:
        """What an answer that is no success says."""
        return refusal(self.status, self.headers, self.body)

    def explained(self, request: Request) -> DownloaderError:
        """Return what an answer that is no success means."""
        return explained(self.refusal, request.subject, of_bucket=not request.key)


class S3Client:
    """Signs requests and sends them by a transport, which others may use too.

    Without `endpoint_url` the store is AWS's, in the region of the bucket. Of the requests whose
    answer is kept in memory, `at_once` are under way at most.
    """

    def __init__(
        self,
        endpoint_url: str | None,
        credentials: Credentials,
        transport: Transport | None = None,
        *,
        at_once: int = _AT_ONCE,
    ) -> None:
        self.transport = transport or Transport()
        self.credentials = credentials
        self._endpoint_url = endpoint_url
        self._slots = asyncio.Semaphore(at_once)
        self._regions: dict[str, str] = {}

    def region(self, bucket: str) -> str:
        """Return the region of `bucket`, as far as its answers told."""
        return self._regions.get(bucket, self.credentials.region)

    def http_request(
        self, request: Request, keys: Keys, chunk_bytes: int = CHUNK_BYTES
    ) -> HttpRequest:
        """Return a request as it goes over HTTP, signed. Raises CREDENTIALS_UNAVAILABLE."""
        region = self.region(request.bucket)
        scheme, host, path = address(
            self._endpoint_url, region, request.bucket, request.key, request.accelerate
        )
        unsigned = HttpRequest(
            method=request.method,
            scheme=scheme,
            host=host,
            path=f"{path}?{request.query}" if request.query else path,
            headers=request.headers,
            subject=request.subject,
            chunk_bytes=chunk_bytes,
        )
        return msgspec.structs.replace(unsigned, headers=signed(unsigned, keys, region))

    async def send(self, request: Request) -> Response:
        """Return the answer to `request`; raise what an answer that is no success means."""
        response = await self.ask(request)
        if not response.is_success:
            raise with_retry_after(response.explained(request), response.headers)
        return response

    async def ask(self, request: Request) -> Response:
        """Return the answer to `request`, also where it is no success.

        New credentials are fetched where the store says that they have expired, and the bucket's
        own region is asked where that is another one; nothing else is tried again.
        """
        keys = await self.credentials.get()
        for _ in range(TRIES):
            response = await self._send(request, keys)
            learned = (
                None
                if response.is_success
                else await self.refresh_from_error(request, response, keys)
            )
            if learned is None:
                break
            keys = learned
        return response

    async def refresh_from_error(
        self, request: Request, response: Response, keys: Keys
    ) -> Keys | None:
        """Return the keys to ask again with, where the answer taught something; else None.

        The same keys would be refused as those that have expired. Raises CREDENTIALS_UNAVAILABLE.
        """
        refusal = response.refusal
        if refusal.code in EXPIRED:
            self.credentials.forget(keys)
            renewed = await self.credentials.get()
            return renewed if renewed != keys else None
        if self._endpoint_url or refusal.region in ("", self.region(request.bucket)):
            return None
        self._regions[request.bucket] = refusal.region
        return keys

    async def _send(self, request: Request, keys: Keys) -> Response:
        response = await self._exchange(request, keys)
        if request.method != "HEAD" or response.is_success:
            return response
        # An answer to HEAD has no body, so the error has no name: this one has.
        asking = msgspec.structs.replace(
            request, method="GET", headers={**request.headers, "range": "bytes=0-0"}
        )
        named = await self._exchange(asking, keys)
        return response if named.is_success else named

    async def _exchange(self, request: Request, keys: Keys) -> Response:
        async with self._slots:
            given = await self.transport.collect(
                self.http_request(request, keys), max(request.limit, REFUSAL_BYTES)
            )
        return Response(*given.head, bytes(given.body))
