"""Signed requests to the store, one at a time and small: what boto3 is too heavy for.

Sources: "Signature Version 4" and "Error responses" in the Amazon S3 API reference.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import quote, urlsplit

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

from .credentials import Credentials, Keys
from .faults import explain

__all__ = ["Answer", "Request", "S3Http", "address"]

_ERROR_BYTES = 1 << 16
_IDLE_SECONDS = 15.0  # servers close a connection after some more
_EXPIRED = {"ExpiredToken", "InvalidToken", "ExpiredTokenException"}
_NAMELESS = {  # what S3 would have called it
    400: "BadRequest",
    403: "Forbidden",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    429: "SlowDown",
}
_ELEMENT = r"<{0}>([^<]*)</{0}>"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an object; `query` is encoded already.

    Of an answer longer than `limit` bytes the rest is not read.
    """

    method: str
    bucket: str
    key: str
    query: str = ""
    headers: dict[str, str] = {}
    limit: int = _ERROR_BYTES

    @property
    def subject(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class Answer(NamedTuple):
    """What the store answered; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The name of the error."""
        return self.element("Code") or _NAMELESS.get(self.status, "")

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "").strip('"')

    def element(self, name: str) -> str:
        """Return the text of the first XML element `name` in the body, empty without one."""
        found = re.search(_ELEMENT.format(name), self.body.decode(errors="replace"))
        return found[1] if found else ""


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
        self._patience = patience
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="s3http")
        self._idle: dict[tuple[str, str], list[_Connection]] = {}
        self._regions: dict[str, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown(wait=False)
        for connection, _ in (each for idle in self._idle.values() for each in idle):
            connection.close()
        self._idle.clear()

    def region(self, bucket: str) -> str:
        """Return the region of `bucket`, as far as its answers told."""
        return self._regions.get(bucket, self._credentials.region)

    async def send(self, request: Request) -> Answer:
        """Return the answer to `request`; raise what an answer that is no success means.

        New credentials are fetched where the store says that they have expired, and the bucket's
        own region is asked where that is another one; nothing else is tried again.
        """
        for _ in range(3):
            keys = await self._credentials.get()
            answer = await self._send(request, keys)
            if answer.is_success or not self._learns(request, answer, keys):
                break
        if not answer.is_success:
            told = f"{answer.code}: {answer.element('Message')} status code: {answer.status}"
            raise explain(told, request.subject)
        return answer

    def _learns(self, request: Request, answer: Answer, keys: Keys) -> bool:
        """Tell whether the answer taught something that makes it worth asking again."""
        if answer.code in _EXPIRED:
            self._credentials.forget(keys)
            return True
        region = answer.headers.get("x-amz-bucket-region", self.region(request.bucket))
        if self._endpoint_url or region == self.region(request.bucket):
            return False
        self._regions[request.bucket] = region
        return True

    async def _send(self, request: Request, keys: Keys) -> Answer:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, self._exchange, request, keys)
        if request.method != "HEAD" or answer.is_success:
            return answer
        # An answer to HEAD has no body, so the error has no name: this one has.
        asking = msgspec.structs.replace(
            request, method="GET", headers={**request.headers, "range": "bytes=0-0"}
        )
        named = await loop.run_in_executor(self._threads, self._exchange, asking, keys)
        return answer if named.is_success else named

    def _exchange(self, request: Request, keys: Keys) -> Answer:
        region = self.region(request.bucket)
        scheme, host, path = address(self._endpoint_url, region, request.bucket, request.key)
        signed = self._sign(request, keys, host, path)
        try:
            for connection in self._connections(scheme, host):
                with contextlib.suppress(ConnectionError):  # closed by the store while it was idle
                    return self._talk(connection, scheme, signed, request.limit)
            return self._talk(self._connect(scheme, host), scheme, signed, request.limit)
        except (OSError, HTTPException) as error:
            told = f"{type(error).__name__}: {error}"
            raise explain(told, request.subject) from error

    def _talk(
        self, connection: HTTPConnection, scheme: str, signed: HttpRequest, limit: int
    ) -> Answer:
        """Send a request and read its answer; the connection is kept where it can be."""
        try:
            connection.request(signed.method, signed.path, headers=dict(signed.headers))
            response = connection.getresponse()
            body = response.read(max(limit, _ERROR_BYTES))
        except BaseException:
            connection.close()
            raise
        if response.isclosed() and not response.will_close:
            idle = self._idle.setdefault((scheme, dict(signed.headers)["host"]), [])
            idle.append(_Connection(connection, time.monotonic()))
        else:
            connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, body)

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
        if scheme == "https":
            return HTTPSConnection(host, timeout=self._patience, context=self._trust)
        return HTTPConnection(host, timeout=self._patience)

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)

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
            return aws_sign_request(unsigned, config).result(self._patience)
        except AwsCrtError as error:
            raise explain(f"NoCredentialProviders: {error}", request.subject) from error


def address(endpoint_url: str | None, region: str, bucket: str, key: str) -> tuple[str, str, str]:
    """Return scheme, host and path of an object, the path encoded once and not normalised.

    AWS's own endpoint has the bucket in the host, unless it has a dot, which no certificate
    matches; others have it in the path.
    """
    path = "/" + quote(key, safe="/")
    if endpoint_url:
        url = urlsplit(endpoint_url)
        return url.scheme, url.netloc, f"{url.path.rstrip('/')}/{bucket}{path}"
    host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    if "." in bucket:
        return "https", host, f"/{bucket}{path}"
    return "https", f"{bucket}.{host}", path
