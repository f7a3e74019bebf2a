"""Sends signed requests to S3, and repeats a request if the refusal says how.

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
from .refusals import EXPIRED, Refusal, refusal, refusal_error
from .signing import address, signed

__all__ = ["REFUSAL_BYTES", "TRIES", "Request", "Response", "S3Client"]

TRIES = 3
"""How often a request is sent at most, if each refusal says how to repeat it."""

REFUSAL_BYTES = 1 << 16
"""How many bytes of a refusal are read at most."""

_AT_ONCE = 8


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an object, or for the bucket itself if `key` is empty.

    - `query` is the part of the URL after `?`, percent-encoded.
    - `limit` is how many bytes of the response's body are read; of a refusal, at least
      REFUSAL_BYTES are.
    - `accelerate` uses S3 Transfer Acceleration, which only AWS has.
    - `prefix` is that of a listing; only errors use it, to name what was requested.
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
    """The response of the object store. Names of `headers` are in lower case.

    A body that is longer than the request's limit is cut off at most one chunk after the limit.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The object store's code of the error, such as `NoSuchKey`, empty for none."""
        return self.refusal.code

    @property
    def refusal(self) -> Refusal:
        """What the response says. Only for a response without success."""
        return refusal(self.status, self.headers, self.body)

    def error(self, request: Request) -> DownloaderError:
        """Return the error for a response without success."""
        return refusal_error(self.refusal, request.subject, of_bucket=not request.key)


class S3Client:
    """Signs requests, and sends them by a transport, which others may use too.

    Without `endpoint_url`, requests go to AWS, to the region of the bucket. Up to `at_once`
    requests whose responses are collected in memory run at once.
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
        """Return the region that a response gave for `bucket`, or else the configured region."""
        return self._regions.get(bucket, self.credentials.region)

    def http_request(
        self, request: Request, keys: Keys, chunk_bytes: int = CHUNK_BYTES
    ) -> HttpRequest:
        """Return the signed HTTP request for `request`.

        Raises CREDENTIALS_UNAVAILABLE if it cannot be signed with `keys`.
        """
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
        """Send a request, and return its response if it is a success.

        Raises the DownloaderError for a refusal, and as `ask`.
        """
        response = await self.ask(request)
        if not response.is_success:
            raise with_retry_after(response.error(request), response.headers)
        return response

    async def ask(self, request: Request) -> Response:
        """Send a request, and return its response, also if it is a refusal.

        The request is repeated with new keys if the object store says that they have expired, and
        in the region that the refusal gives if that is another one. It is not repeated for other
        reasons. Raises CREDENTIALS_UNAVAILABLE, and as `Transport.fetch`.
        """
        keys = await self.credentials.get()
        for _ in range(TRIES):
            response = await self._send(request, keys)
            renewed = (
                None
                if response.is_success
                else await self.refresh_from_error(request, response, keys)
            )
            if renewed is None:
                break
            keys = renewed
        return response

    async def refresh_from_error(
        self, request: Request, response: Response, keys: Keys
    ) -> Keys | None:
        """Return the keys with which to repeat a refused request, or None if that is of no use.

        If the keys have expired, they are renewed; None if the renewed keys are the same. If the
        bucket is in another region, that region is remembered, and the keys stay the same. Raises
        CREDENTIALS_UNAVAILABLE.
        """
        refusal = response.refusal
        if refusal.code in EXPIRED:
            self.credentials.invalidate(keys)
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
        # A response to HEAD has no body, and so no code of the error. One to GET has.
        get = msgspec.structs.replace(
            request, method="GET", headers={**request.headers, "range": "bytes=0-0"}
        )
        with_code = await self._exchange(get, keys)
        return response if with_code.is_success else with_code

    async def _exchange(self, request: Request, keys: Keys) -> Response:
        async with self._slots:
            collected = await self.transport.collect(
                self.http_request(request, keys), max(request.limit, REFUSAL_BYTES)
            )
        return Response(*collected.head, bytes(collected.body))
