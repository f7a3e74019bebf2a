"""Signed requests to the store, one at a time and small: what boto3 is too heavy for.

Sources: "Signature Version 4" and "Error responses" in the Amazon S3 API reference.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from io import BufferedReader
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSignedBodyValue,
    AwsSigningAlgorithm,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.exceptions import AwsCrtError
from awscrt.http import HttpHeaders, HttpRequest

from ...core.error_mapping import without_secrets
from ...core.errors import DownloaderError, ErrorCode
from ...core.request_timeouts import with_retry_after
from ..http.errors import connection_error
from ..http.timeouts import Deadline, MinimumRate
from .credentials import Credentials, Keys
from .refusals import EXPIRED, Refusal, explained, refusal

__all__ = [
    "TRIES",
    "Request",
    "Response",
    "S3Http",
    "StreamingResponse",
    "address",
]

TRIES = 3
"""How often a request is made, where each answer teaches how to make the next."""

_ERROR_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 16
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 15.0  # servers close a connection after some more


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
    limit: int = _ERROR_BYTES
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


class NoLengthError(HTTPException):
    """The answer's Content-Length is no number of bytes."""


class _Response(HTTPResponse):
    """A response whose head comes to its end: http.client takes one that breaks off for whole."""

    def begin(self) -> None:
        """Read the head. Raises IncompleteRead where it breaks off, and as http.client does."""
        self.fp = lines = _Lines(self.fp.detach())
        super().begin()
        if not lines.last:
            raise IncompleteRead(b"")


class _Lines(BufferedReader):
    """Keeps the last line that was read, which is empty at the end of a file."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class StreamingResponse:
    """An answer whose body is still to be read, on a connection that is kept after that."""

    def __init__(
        self, connection: HTTPConnection, response: HTTPResponse, idle: list[_Connection]
    ) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self._connection = connection
        self._response = response
        self._idle = idle
        self._is_broken = False

    @property
    def has_ended(self) -> bool:
        """Whether the body has come to the end that it told, not to that of the connection."""
        if self._response.chunked:
            return self._response.isclosed() and not self._is_broken
        return self._response.length == 0

    def read_some(self, buffer: memoryview) -> int:
        """Read what is there of the body into `buffer`; wait for a byte at least, 0 is the end."""
        response = self._response
        if response.chunked:
            came = self._read_chunk(len(buffer))
            buffer[: len(came)] = came
            return len(came)
        if response.length is None:
            return response.fp.readinto1(buffer)
        if not response.length:
            return 0
        count = response.fp.readinto1(buffer[: response.length])
        response.length -= count
        return count

    def _read_chunk(self, most: int) -> bytes:
        try:
            return self._response.read1(most)
        except HTTPException:
            self._is_broken = True  # http.client closes it as if it had come to its end
            raise

    def read_all(self, limit: int, patience: float) -> Response:
        """Read the body, or a little more than `limit` bytes of it, and let go of the connection.

        Raises TimeoutError where too little comes for `patience` seconds, IncompleteRead where the
        body ends before it should, and NoLengthError.
        """
        body = bytearray()
        block, rate = memoryview(bytearray(_BLOCK_BYTES)), MinimumRate(patience)
        limit = max(limit, _ERROR_BYTES)
        try:
            if self._has_odd_length:
                raise NoLengthError(self.headers["content-length"])
            while len(body) <= limit:
                since = time.monotonic()
                count = self.read_some(block)
                if not count:
                    break
                body += block[:count]
                rate.add(count, time.monotonic() - since)
            if self._response.length and len(body) <= limit:
                raise IncompleteRead(bytes(body), self._response.length)
        finally:
            self.end()
        return Response(self.status, self.headers, bytes(body))

    @property
    def _has_odd_length(self) -> bool:
        """Whether nobody can know where the body ends, as Content-Length is no number."""
        response = self._response
        return response.length is None and not response.chunked and "content-length" in self.headers

    def end(self, *, keep: bool = True) -> None:
        """Let go of the connection: it is kept, unless the body was not read to its end."""
        is_read = self._response.length == 0 or self._response.isclosed()
        self._response.close()
        if keep and is_read and not self._response.will_close:
            self._idle.append(_Connection(self._connection, time.monotonic()))
        else:
            self._connection.close()


class _Connection(NamedTuple):
    http: HTTPConnection
    since: float  # when it fell idle


class S3Http:
    """Sends requests from a few threads, over connections that are kept for the next one.

    Without `endpoint_url` the store is AWS's, in the region of the bucket. AWS_CA_BUNDLE counts.
    A store may be silent for `patience` seconds.
    """

    def __init__(
        self,
        endpoint_url: str | None,
        credentials: Credentials,
        *,
        threads: int = 8,
        patience: float = 30.0,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        self.patience = patience
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="s3http")
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._regions: dict[str, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=False)
        self.close_idle()

    def close_idle(self) -> None:
        """Close the connections that are kept for later."""
        for idle in self._idle.values():
            while idle:
                idle.pop().http.close()

    def region(self, bucket: str) -> str:
        """Return the region of `bucket`, as far as its answers told."""
        return self._regions.get(bucket, self._credentials.region)

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
        keys = await self._credentials.get()
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
            self._credentials.forget(keys)
            renewed = await self._credentials.get()
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
        loop = asyncio.get_running_loop()
        deadline = Deadline(self.patience)

        def exchange() -> Response:
            loop.call_soon_threadsafe(deadline.start)  # not while it waits for a thread
            try:
                response = self.begin(request, keys, deadline.watch)
                deadline.on_response()
                return response.read_all(request.limit, self.patience)
            except (OSError, HTTPException) as error:
                late = TimeoutError() if deadline.is_over else error
                raise connection_error(late, request.subject) from error

        try:
            return await loop.run_in_executor(self._threads, exchange)
        finally:
            deadline.stop()

    def begin(
        self,
        request: Request,
        keys: Keys,
        watch: Callable[[socket.socket | None], None] = lambda _: None,
    ) -> StreamingResponse:
        """Send a request and return its answer up to its body. Blocks; raises as http.client does.

        `watch` is told the socket before anything is awaited from it, each time that another is
        taken; None before one is connected. What it raises ends the request.
        """
        region = self.region(request.bucket)
        scheme, host, path = address(
            self._endpoint_url, region, request.bucket, request.key, request.accelerate
        )
        signed = self._sign(request, keys, host, path)
        origin = (scheme, host)
        for connection in self._connections(*origin):
            with contextlib.suppress(ConnectionError):  # closed by the store while it was idle
                return self._begin(connection, origin, signed, watch)
        return self._begin(self._connect(*origin), origin, signed, watch)

    def _begin(
        self,
        connection: HTTPConnection,
        origin: tuple[str, str],
        signed: HttpRequest,
        watch: Callable[[socket.socket | None], None],
    ) -> StreamingResponse:
        try:
            watch(connection.sock)
            if connection.sock is None:
                self._open(connection)
                watch(connection.sock)
            # Not signed, since proxies change it: the signature would be wrong.
            headers = {**dict(signed.headers), "accept-encoding": "identity"}
            connection.request(signed.method, signed.path, headers=headers)
            return StreamingResponse(
                connection, connection.getresponse(), self._idle.setdefault(origin, [])
            )
        except BaseException:
            connection.close()
            raise

    def _open(self, connection: HTTPConnection) -> None:
        """Connect; from then on the store may be silent for as long as it may."""
        connection.connect()
        connection.sock.settimeout(self.patience)

    def _connections(self, scheme: str, host: str) -> Iterator[HTTPConnection]:
        """Take the idle connections to `host`, one by one, the freshest first."""
        idle = self._idle.setdefault((scheme, host), [])
        while True:
            try:
                connection, since = idle.pop()
            except IndexError:
                return
            if time.monotonic() - since < _IDLE_SECONDS:
                yield connection
            else:
                connection.close()

    def _connect(self, scheme: str, host: str) -> HTTPConnection:
        """Return a connection to `host`, through the proxy that the environment names for it."""
        proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
        via = urlsplit(proxy).netloc.rpartition("@")[2] or host
        seconds = min(_CONNECT_SECONDS, self.patience)
        connection = (
            HTTPSConnection(via, timeout=seconds, context=self._ssl_context)
            if scheme == "https"
            else HTTPConnection(via, timeout=seconds)
        )
        connection.response_class = _Response
        if proxy:
            connection.set_tunnel(host, headers=_proxy_authorization(proxy))
        return connection

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        bundle = os.environ.get("AWS_CA_BUNDLE") or None
        try:
            return ssl.create_default_context(cafile=bundle)
        except OSError as error:
            raise DownloaderError(
                ErrorCode.ENGINE_FAILED,
                f"the certificates of AWS_CA_BUNDLE, {bundle}, cannot be read; name a file with"
                " certificates in PEM format, or leave the variable out",
                cause=str(error),
            ) from error

    def _sign(self, request: Request, keys: Keys, host: str, path: str) -> HttpRequest:
        path += f"?{request.query}" if request.query else ""
        headers = HttpHeaders([("host", host), *request.headers.items()])
        unsigned = HttpRequest(request.method, path, headers)
        config = AwsSigningConfig(
            algorithm=AwsSigningAlgorithm.V4,
            signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=AwsCredentialsProvider.new_static(
                keys.access_key_id, keys.secret_access_key, keys.token
            ),
            region=self.region(request.bucket),
            service="s3",
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=AwsSignedBodyValue.EMPTY_SHA256,
            signed_body_header_type=AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        try:
            return aws_sign_request(unsigned, config).result(self.patience)
        except AwsCrtError as error:
            raise DownloaderError(
                ErrorCode.CREDENTIALS_UNAVAILABLE,
                f"the credentials for {request.subject} sign no request; check the device's token"
                " exchange role, or the AWS variables in the environment",
                cause=without_secrets(str(error)),
            ) from error


def _proxy_authorization(proxy: str) -> dict[str, str]:
    """Return what tells a proxy who asks, where its address has a user and a password."""
    url = urlsplit(proxy)
    if not url.username:
        return {}
    user = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def address(
    endpoint_url: str | None, region: str, bucket: str, key: str, accelerate: bool = False
) -> tuple[str, str, str]:
    """Return scheme, host and path of an object, the path encoded once and not normalised.

    Of the bucket itself where `key` is empty. AWS's own endpoint has the bucket in the host, unless
    it has a dot, which no certificate matches; others have it in the path.
    """
    path = "/" + quote(key, safe="/")
    below = path if key else ""
    if endpoint_url:
        url = urlsplit(endpoint_url)
        return url.scheme, url.netloc, f"{url.path.rstrip('/')}/{bucket}{below}"
    if accelerate:
        return "https", f"{bucket}.s3-accelerate.amazonaws.com", path
    host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    if "." in bucket:
        return "https", host, f"/{bucket}{below}"
    return "https", f"{bucket}.{host}", path
