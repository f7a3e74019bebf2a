"""What the store says that the bytes of an object are: its checksum, or its MD5.

Sources: HeadObject, GetObjectAttributes and Object (on ETag) in the Amazon S3 API reference.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from . import validators
from .checksums import ALGORITHMS, Expected, md5_etag
from .credentials import Credentials
from .errors import DownloaderError, ErrorCode
from .faults import explain
from .s3http import Answer, Request, S3Http

__all__ = ["CHECKSUM_MODE", "ObjectHeads", "told"]

log = logging.getLogger(__name__)

CHECKSUM_MODE = {"x-amz-checksum-mode": "ENABLED"}
"""What asks the store to tell an object's checksum, of a HEAD or of a GET of the whole object."""

_PAGE = 1_000  # parts that GetObjectAttributes tells at once
_PAGE_BYTES = 1 << 20
_PART = re.compile("<Part>(.*?)</Part>", re.DOTALL)
_COUNTED = re.compile(r"(.+)-([1-9]\d{0,4})")
_ENCRYPTED_ETAG = (
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-aws-kms-key-id",
)


class ObjectHeads:
    """The heads of objects, asked of the store one by one, over connections that are kept.

    boto3 could tell the same, and costs half a second and 40 MiB. A store may be silent for
    `patience` seconds; nothing is tried again but what expired credentials or another region
    explain.
    """

    def __init__(
        self, endpoint_url: str | None, credentials: Credentials, *, patience: float = 30.0
    ) -> None:
        self._http = S3Http(endpoint_url, credentials, patience=patience)
        self._refused: set[str] = set()  # buckets that do not tell their objects' attributes

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def close_idle(self) -> None:
        """Close the connections that are kept for later."""
        self._http.close_idle()

    async def expected(self, bucket: str, key: str, etag: str, size: int) -> Expected | None:
        """Return the checksum that an object must have, the one that costs least to compute.

        None where the store tells none that can be checked. Raises SOURCE_CHANGED where the
        object is not the one of that ETag and size, OBJECT_NOT_FOUND, ACCESS_DENIED,
        CREDENTIALS_UNAVAILABLE, and what tells of the network.
        """
        head = Request(method="HEAD", bucket=bucket, key=key, headers=CHECKSUM_MODE)
        answer = await self._http.send(head)
        _check_same(answer, head, etag, size)
        for algorithm in ALGORITHMS:
            if value := answer.headers.get(f"x-amz-checksum-{algorithm.lower()}"):
                return await self._checksum(head, answer, algorithm, value)
        return None if _is_encrypted(answer.headers) else md5_etag(etag)

    async def validator(self, bucket: str, key: str, size: int) -> str:
        """Return the validator that an object itself has, empty for none.

        Raises SOURCE_CHANGED where it has not `size` bytes; else as `expected`.
        """
        head = Request(method="HEAD", bucket=bucket, key=key)
        answer = await self._http.send(head)
        if answer.headers.get("content-length") != str(size):
            raise _changed(head)
        return validators.from_headers(answer.headers)

    async def read(self, bucket: str, key: str, etag: str, limit: int) -> bytes:
        """Return an object that has at most `limit` bytes.

        Raises SOURCE_CHANGED where it is larger, or not the one of that ETag; else as `expected`.
        """
        request = Request(method="GET", bucket=bucket, key=key, limit=limit)
        answer = await self._http.send(request)
        length = answer.headers.get("content-length")
        _check_same(answer, request, etag, int(length) if length else len(answer.body))
        if length and int(length) > limit:
            raise _changed(request)
        return answer.body

    async def _checksum(
        self, head: Request, answer: Answer, algorithm: str, value: str
    ) -> Expected | None:
        """Return a checksum with all that is needed to check it, if the store tells that."""
        counted = _COUNTED.fullmatch(value)
        if not counted:
            if not _is_full(answer.headers, answer.etag):
                return None
            return Expected(algorithm=algorithm, value=value)
        size = int(answer.headers["content-length"])
        expected = Expected(algorithm=algorithm, value=value, composite=True)
        detailed = await self._with_parts(head, expected, answer.etag)
        if detailed.layout(size) is None:
            detailed = await self._with_part_size(head, expected, int(counted[2]), size)
        if detailed.layout(size) is None:
            log.info("%s: the parts of its checksum %s are not known", head.subject, value)
            return None
        return detailed

    async def _with_parts(self, head: Request, expected: Expected, etag: str) -> Expected:
        """Add the sizes and checksums of the parts, where the policy allows to ask for them."""
        if head.bucket in self._refused:
            return expected
        sizes: list[int] = []
        parts: list[str] = []
        marker, more = "0", True
        while more:
            try:
                answer = await self._http.send(_attributes(head, marker))
            except DownloaderError as error:
                if error.code in {ErrorCode.ACCESS_DENIED, ErrorCode.ENGINE_FAILED}:
                    self._refused.add(head.bucket)
                    return expected
                raise
            if answer.element("ETag").replace("&quot;", "").strip('"') not in ("", etag):
                raise _changed(head)
            for part in _PART.findall(answer.body.decode(errors="replace")):
                told = answer._replace(body=part.encode())
                sizes.append(int(told.element("Size") or 0))
                parts.append(told.element(f"Checksum{expected.algorithm}"))
            marker = answer.element("NextPartNumberMarker")
            more = answer.element("IsTruncated") == "true" and marker.isdigit() and bool(sizes)
        return msgspec.structs.replace(
            expected, part_sizes=tuple(sizes), parts=tuple(parts) if all(parts) else ()
        )

    async def _with_part_size(
        self, head: Request, expected: Expected, count: int, size: int
    ) -> Expected:
        """Add the size of the parts, if the first and the last agree that all have the same."""
        first, last = [await self._part_length(head, number, count) for number in (1, count)]
        if first is None or last is None or first * (count - 1) + last != size:
            return expected
        return msgspec.structs.replace(expected, part_size=first)

    async def _part_length(self, head: Request, number: int, count: int) -> int | None:
        asking = msgspec.structs.replace(head, query=f"partNumber={number}")
        answer = await self._http.send(asking)
        if answer.headers.get("x-amz-mp-parts-count") != str(count):
            return None
        return int(answer.headers["content-length"])


def _attributes(head: Request, marker: str) -> Request:
    """Ask for the parts of an object after the part number `marker`."""
    return msgspec.structs.replace(
        head,
        method="GET",
        query="attributes",
        headers={
            "x-amz-object-attributes": "ETag,Checksum,ObjectParts",
            "x-amz-max-parts": str(_PAGE),
            "x-amz-part-number-marker": quote(marker),
        },
        limit=_PAGE_BYTES,
    )


def told(headers: Mapping[str, str], etag: str, size: int) -> Expected | None:
    """Return what an answer tells by itself of the bytes of its object, None for nothing.

    That is a checksum of them all, which it was asked for with CHECKSUM_MODE, or their MD5.
    """
    for algorithm in ALGORITHMS:
        value = headers.get(f"x-amz-checksum-{algorithm.lower()}", "")
        if value.endswith("-1"):
            return Expected(algorithm=algorithm, value=value, composite=True, part_size=size)
        if value and "-" not in value and _is_full(headers, etag):
            return Expected(algorithm=algorithm, value=value)
    return None if _is_encrypted(headers) else md5_etag(etag)


def _is_full(headers: Mapping[str, str], etag: str) -> bool:
    """Tell whether a checksum is that of the object's bytes, though it may not say so.

    Of an object uploaded in parts, whose ETag has a `-`, it may be the checksum of checksums.
    """
    kind = headers.get("x-amz-checksum-type")
    return kind == "FULL_OBJECT" or (kind is None and "-" not in etag)


def _is_encrypted(headers: Mapping[str, str]) -> bool:
    """Tell whether the ETag is something else than an MD5, though it may look like one."""
    encryption = headers.get("x-amz-server-side-encryption", "")
    return encryption.startswith("aws:kms") or any(name in headers for name in _ENCRYPTED_ETAG)


def _check_same(answer: Answer, request: Request, etag: str, size: int) -> None:
    told = answer.headers.get("content-length")
    dated = {"last-modified": answer.headers.get("last-modified", "")}
    if validators.is_date(etag):
        is_same = validators.same(etag, validators.from_headers(dated))
    else:
        is_same = not etag or validators.same(etag, validators.from_headers(answer.headers))
    if not is_same or (told is not None and int(told) != size):
        raise _changed(request)


def _changed(request: Request) -> DownloaderError:
    return explain("PreconditionFailed", request.subject)
