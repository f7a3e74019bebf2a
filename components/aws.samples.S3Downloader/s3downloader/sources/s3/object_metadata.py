"""Requests the metadata of objects: size, validator and checksum.

Sources: HeadObject, GetObjectAttributes and Object (on ETag) in the Amazon S3 API reference.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import msgspec

from ...core import validators
from ...core.checksums import ALGORITHMS, Expected, md5_etag
from ...core.errors import DownloaderError, ErrorCode
from ...core.objects import ObjectRef
from . import documents, responses
from .client import Request, Response, S3Client

__all__ = ["CHECKSUM_MODE", "ChecksumMode", "ObjectMetadata", "checksum_from_headers"]

log = logging.getLogger(__name__)

CHECKSUM_MODE = {"x-amz-checksum-mode": "ENABLED"}
"""The header that asks for an object's checksum, in a HEAD or a GET of the complete object."""

_PAGE = 1_000  # parts in one response of GetObjectAttributes
_PAGE_BYTES = 1 << 20
_MOST_PARTS = 10_000
_SNIFFED = 512  # bytes of a body that show whether it is a web page
_MAY_REFUSE_CHECKSUMS = {400, 403, 501}
_COUNTED = re.compile(r"(.+)-([1-9]\d{0,4})")
_ENCRYPTED_ETAG = (
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-aws-kms-key-id",
)


class ChecksumMode:
    """Whether the object store accepts requests that ask for checksums.

    Some object stores refuse the header, because they do not know it, or because it is signed. All
    requests to one object store share one ChecksumMode.
    """

    def __init__(self) -> None:
        self._is_unsupported = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers that ask for a checksum. Empty after the object store has refused them."""
        return {} if self._is_unsupported else dict(CHECKSUM_MODE)

    def may_cause(self, request: Request, error: DownloaderError) -> bool:
        """Return whether `request` may succeed without these headers, judging from `error`."""
        asks = request.headers.keys() >= CHECKSUM_MODE.keys()
        is_refused = error.code in {ErrorCode.ACCESS_DENIED, ErrorCode.ENGINE_FAILED}
        return asks and is_refused and error.details.get("status") in _MAY_REFUSE_CHECKSUMS

    def without_checksums(self, request: Request) -> Request:
        """Return the same request without these headers."""
        headers = {name: v for name, v in request.headers.items() if name not in CHECKSUM_MODE}
        return msgspec.structs.replace(request, headers=headers)

    def confirm_unsupported(self) -> None:
        """Record that a request failed with these headers, and succeeded without them."""
        if not self._is_unsupported:
            log.warning(
                "the object store refuses requests for checksums; they are not requested any more"
            )
        self._is_unsupported = True


class ObjectMetadata:
    """Requests the metadata of single objects.

    boto3 is not used, because it costs half a second and 40 MiB. A request is repeated only if the
    credentials have expired, the bucket is in another region, or checksums are refused.
    """

    def __init__(self, client: S3Client) -> None:
        self.client = client
        self.checksum_mode = ChecksumMode()
        self._refused: set[str] = set()  # buckets that refuse GetObjectAttributes

    async def head(self, bucket: str, key: str) -> ObjectRef:
        """Return an object. Its validator is empty if the object store gives none.

        Raises OBJECT_NOT_FOUND, SIZE_UNKNOWN, ACCESS_DENIED, CREDENTIALS_UNAVAILABLE, TIMEOUT, and
        NETWORK_UNREACHABLE, also if the response does not come from the object store.
        """
        request = Request(method="HEAD", bucket=bucket, key=key)
        response = await self.client.send(request)
        _check_object(response, request)
        size = responses.length(response.headers)
        validator = validators.from_headers(response.headers)
        if size is None or (size == 0 and responses.contradicts_empty(response.headers)):
            return await self._with_measured_size(request, validator)
        return ObjectRef(key, size, validator, validators.modified_from_headers(response.headers))

    async def expected(self, bucket: str, wanted: ObjectRef) -> Expected | None:
        """Return the checksum that an object must have, the one that is cheapest to compute.

        None if the object store has no checksum that can be compared. Raises SOURCE_CHANGED if the
        object has another validator or size than `wanted`, and otherwise as `head`.
        """
        headers = self.checksum_mode.headers
        head = Request(method="HEAD", bucket=bucket, key=wanted.name, headers=headers)
        response = await self._send(head)
        _check_same(response, head, wanted)
        for algorithm in ALGORITHMS:
            if value := response.headers.get(f"x-amz-checksum-{algorithm.lower()}"):
                expected = Expected(algorithm=algorithm, value=value)
                return await self._checksum(head, response.headers, expected, wanted.size)
        own = validators.from_headers(response.headers)
        return None if _is_encrypted(response.headers) else md5_etag(own)

    async def read(self, bucket: str, wanted: ObjectRef) -> bytes:
        """Return the bytes of an object. All of them are in memory.

        Raises SOURCE_CHANGED if the object has another validator or size than `wanted`, and
        otherwise as `head`.
        """
        request = Request(method="GET", bucket=bucket, key=wanted.name, limit=wanted.size)
        response = await self.client.send(request)
        _check_same(response, request, wanted)
        if len(response.body) != wanted.size:
            raise _changed(request)
        return response.body

    async def _send(self, request: Request) -> Response:
        """Send a request that asks for a checksum. If that may be refused, repeat it without."""
        try:
            return await self.client.send(request)
        except DownloaderError as error:
            if not self.checksum_mode.may_cause(request, error):
                raise
        response = await self.client.send(self.checksum_mode.without_checksums(request))
        self.checksum_mode.confirm_unsupported()
        return response

    async def _with_measured_size(self, head: Request, validator: str) -> ObjectRef:
        """Return an object whose HEAD has no size: request its first byte, and use Content-Range.

        `validator` is that of the HEAD. Raises SIZE_UNKNOWN if this response has no size either.
        """
        request = msgspec.structs.replace(head, method="GET", headers={"range": "bytes=0-0"})
        response = await self.client.ask(request)
        if response.is_success:
            _check_object(response, request)
            read_size = responses.length if response.status == 200 else responses.total
            size = read_size(response.headers)
        elif (refused := response.refusal).name == "InvalidRange" and not refused.foreign:
            size = None if refused.size else refused.size  # an empty object has no first byte
        else:
            raise response.error(request)
        if size is None:
            raise DownloaderError(
                ErrorCode.SIZE_UNKNOWN,
                f"the object store does not say how many bytes {head.subject} has; configure it, or"
                " the proxy in front of it, to send Content-Length and Content-Range",
            )
        return ObjectRef(
            head.key,
            size,
            validators.from_headers(response.headers) or validator,
            validators.modified_from_headers(response.headers),
        )

    async def _checksum(
        self, head: Request, headers: Mapping[str, str], expected: Expected, size: int
    ) -> Expected | None:
        """Return a checksum with what is needed to compare it, or None if that is not known.

        A composite checksum needs the sizes of the parts in which the object was uploaded.
        """
        validator = validators.from_headers(headers)
        counted = _COUNTED.fullmatch(expected.value)
        if not counted:
            return expected if _is_full(headers, validator) else None
        expected = msgspec.structs.replace(expected, composite=True)
        detailed = await self._with_parts(head, expected, validator)
        if detailed.layout(size) is None:
            detailed = await self._with_part_size(head, expected, int(counted[2]), size)
        if detailed.layout(size) is None:
            log.info("%s: the parts of its checksum %s are not known", head.subject, expected.value)
            return None
        return detailed

    async def _with_parts(self, head: Request, expected: Expected, validator: str) -> Expected:
        """Add the sizes and checksums of the parts, if the policy allows GetObjectAttributes."""
        if head.bucket in self._refused:
            return expected
        sizes: list[int] = []
        parts: list[str] = []
        marker, more = 0, True
        while more:
            try:
                response = await self.client.send(_attributes(head, marker))
                page = _PartsPage(response.body, expected.algorithm)
            except DownloaderError as error:
                if error.code in {ErrorCode.ACCESS_DENIED, ErrorCode.ENGINE_FAILED}:
                    self._refused.add(head.bucket)
                    return expected
                raise
            except documents.NotXmlError as error:
                if responses.is_page(response.headers, response.body[:_SNIFFED]):
                    raise responses.foreign_error(
                        head.subject, response.status, response.headers
                    ) from error
                return expected
            if page.validator and not validators.same(page.validator, validator):
                raise _changed(head)
            sizes += page.sizes
            parts += page.checksums
            more = page.is_truncated and bool(page.sizes) and marker < page.marker <= _MOST_PARTS
            marker = page.marker
        return msgspec.structs.replace(
            expected, part_sizes=tuple(sizes), parts=tuple(parts) if all(parts) else ()
        )

    async def _with_part_size(
        self, head: Request, expected: Expected, count: int, size: int
    ) -> Expected:
        """Add the size of the parts, if the first and the last show that all have the same size."""
        first, last = [await self._part_length(head, number, count) for number in (1, count)]
        if first is None or last is None or first * (count - 1) + last != size:
            return expected
        return msgspec.structs.replace(expected, part_size=first)

    async def _part_length(self, head: Request, number: int, count: int) -> int | None:
        """Return the size of a part in bytes, None if the object does not have `count` parts."""
        head_of_part = msgspec.structs.replace(head, query=f"partNumber={number}")
        response = await self.client.send(head_of_part)
        _check_object(response, head_of_part)
        if response.headers.get("x-amz-mp-parts-count") != str(count):
            return None
        return responses.length(response.headers)


class _PartsPage:
    """A page of an object's parts: their sizes, and their checksums, which may be empty texts.

    Raises NotXmlError.
    """

    def __init__(self, body: bytes, algorithm: str) -> None:
        root = documents.parse(body)
        self.validator = validators.from_headers({"etag": documents.child(root, "ETag") or ""})
        self.sizes: list[int] = []
        self.checksums: list[str] = []
        self.is_truncated = False
        self.marker = 0
        for parts in documents.children(root, "ObjectParts"):
            self.marker = responses.number(documents.child(parts, "NextPartNumberMarker")) or 0
            self.is_truncated = documents.child(parts, "IsTruncated") == "true"
            for part in documents.children(parts, "Part"):
                self.sizes.append(responses.number(documents.child(part, "Size")) or 0)
                self.checksums.append(documents.child(part, f"Checksum{algorithm}") or "")


def _attributes(head: Request, marker: int) -> Request:
    """Ask for the parts of an object after the part number `marker`."""
    return msgspec.structs.replace(
        head,
        method="GET",
        query="attributes",
        headers={
            "x-amz-object-attributes": "ETag,Checksum,ObjectParts",
            "x-amz-max-parts": str(_PAGE),
            "x-amz-part-number-marker": str(marker),
        },
        limit=_PAGE_BYTES,
    )


def checksum_from_headers(headers: Mapping[str, str], validator: str, size: int) -> Expected | None:
    """Return the checksum in the headers of a response with a complete object, None for none.

    That is the checksum of all its bytes, if the request asked for it with CHECKSUM_MODE, or else
    the MD5 in its ETag.
    """
    for algorithm in ALGORITHMS:
        value = headers.get(f"x-amz-checksum-{algorithm.lower()}", "")
        if value.endswith("-1"):
            return Expected(algorithm=algorithm, value=value, composite=True, part_size=size)
        if value and "-" not in value and _is_full(headers, validator):
            return Expected(algorithm=algorithm, value=value)
    return None if _is_encrypted(headers) else md5_etag(validator)


def _is_full(headers: Mapping[str, str], validator: str) -> bool:
    """Return whether a checksum is that of the object's bytes.

    If the headers do not say so, it depends on the ETag: one with a `-` is of an object uploaded in
    parts, and then the checksum may be composite, a checksum of checksums.
    """
    kind = headers.get("x-amz-checksum-type")
    return kind == "FULL_OBJECT" or (kind is None and "-" not in validator)


def _is_encrypted(headers: Mapping[str, str]) -> bool:
    """Return whether the object is encrypted with a key whose objects have no MD5 as ETag."""
    encryption = headers.get("x-amz-server-side-encryption", "")
    return encryption.startswith("aws:kms") or any(name in headers for name in _ENCRYPTED_ETAG)


def _check_same(response: Response, request: Request, wanted: ObjectRef) -> None:
    """Raise SOURCE_CHANGED if a response is of an object with another validator or size.

    Raises NETWORK_UNREACHABLE if it does not come from the object store.
    """
    validator = wanted.validator
    _check_object(response, request, validator)
    is_other = bool(validator) and not responses.has_validator(response.headers, validator)
    if is_other or responses.length(response.headers) not in (None, wanted.size):
        raise _changed(request)


def _check_object(response: Response, request: Request, validator: str = "") -> None:
    """Raise NETWORK_UNREACHABLE if a response does not come from the object store."""
    responses.check_object(
        response.status,
        response.headers,
        request.subject,
        validator=validator,
        head=response.body[:_SNIFFED],
    )


def _changed(request: Request) -> DownloaderError:
    return DownloaderError(
        ErrorCode.SOURCE_CHANGED,
        f"{request.subject} is no longer the object that was listed; resume to fetch the new one",
    )
