"""Simulates responses of Amazon S3 that the servers of the sandbox do not have.

They have the form of the examples in the Amazon S3 API reference: HeadObject with a part number,
GetObjectAttributes with checksums of parts and in pages, AccessDenied for it, a bucket in another
region, and an expired token.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

__all__ = ["Amazon"]

_REASONS = {200: "OK", 206: "Partial Content", 301: "Moved", 400: "Bad Request", 403: "Forbidden"}


@dataclass
class Amazon:
    """An object uploaded in parts of `sizes` with `checksums`; an async context manager."""

    sizes: list[int] = field(default_factory=lambda: [5, 5, 5, 2])
    checksums: tuple[str, ...] = ("AAAAAA==", "BBBBBA==", "CCCCCA==", "DDDDDA==")
    value: str = "EEEEEA==-4"
    algorithm: str = "CRC32C"
    page: int = 1_000
    allows_attributes: bool = True
    region: str = ""
    """The region of the bucket; empty for any."""
    valid_key: str = ""
    """The access key ID whose token has not expired; empty for any."""
    requests: list[str] = field(default_factory=list)
    """The method and query of each request."""
    connections: int = 0

    async def __aenter__(self) -> Amazon:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def etag(self) -> str:
        return f"d41d8cd98f00b204e9800998ecf8427e-{len(self.sizes)}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
                method, target, _ = lines[0].split(" ")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                self.requests.append(f"{method} {urlsplit(target).query}".strip())
                status, headers, body = self._answer(target, headers)
                headers.setdefault("Content-Length", str(len(body)))
                head = [f"HTTP/1.1 {status} {_REASONS[status]}"]
                head += [f"{name}: {value}" for name, value in headers.items()]
                content = b"" if method == "HEAD" else body.encode()
                writer.write("\r\n".join([*head, "", ""]).encode() + content)
                await writer.drain()
        writer.close()

    def _answer(self, target: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        query = parse_qs(urlsplit(target).query, keep_blank_values=True)
        signer, region = _scope(headers["authorization"])
        if self.region and region != self.region:
            headers = {"x-amz-bucket-region": self.region}
            return 400, headers, _error("AuthorizationHeaderMalformed", f"expecting {self.region}")
        if self.valid_key and signer != self.valid_key.lower():
            return 400, {}, _error("ExpiredToken", "The provided token has expired.")
        if "attributes" in query:
            if not self.allows_attributes:
                return 403, {}, _error("AccessDenied", "Access Denied")
            return 200, {}, self._attributes(int(headers["x-amz-part-number-marker"]))
        if "partNumber" in query:
            number = int(query["partNumber"][0])
            headers = {
                "ETag": f'"{self.etag}"',
                "Content-Length": str(self.sizes[number - 1]),
                "x-amz-mp-parts-count": str(len(self.sizes)),
            }
            return 206, headers, ""
        headers = {
            "ETag": f'"{self.etag}"',
            "Content-Length": str(sum(self.sizes)),
            f"x-amz-checksum-{self.algorithm.lower()}": self.value,
            "x-amz-checksum-type": "COMPOSITE",
        }
        return 200, headers, ""

    def _attributes(self, marker: int) -> str:
        last = min(marker + self.page, len(self.sizes))
        parts = "".join(
            f"<Part><PartNumber>{number + 1}</PartNumber><Size>{self.sizes[number]}</Size>"
            f"<Checksum{self.algorithm}>{self.checksums[number]}</Checksum{self.algorithm}></Part>"
            for number in range(marker, last)
        )
        more = str(last < len(self.sizes)).lower()
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<GetObjectAttributesResponse>'
            f"<ETag>{self.etag}</ETag><Checksum><Checksum{self.algorithm}>{self.value}"
            f"</Checksum{self.algorithm}><ChecksumType>COMPOSITE</ChecksumType></Checksum>"
            f"<ObjectParts><IsTruncated>{more}</IsTruncated><MaxParts>{self.page}</MaxParts>"
            f"<NextPartNumberMarker>{last}</NextPartNumberMarker>"
            f"<PartNumberMarker>{marker}</PartNumberMarker>{parts}"
            f"<PartsCount>{len(self.sizes)}</PartsCount></ObjectParts>"
            "</GetObjectAttributesResponse>"
        )


def _scope(authorization: str) -> tuple[str, str]:
    """Return the access key ID and the region of a request's signature."""
    found = re.search(r"credential=([^/]+)/[0-9]+/([^/]+)/s3/aws4_request", authorization)
    assert found, authorization
    return found[1], found[2]


def _error(code: str, message: str) -> str:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
