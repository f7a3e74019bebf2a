"""Converts refusals of an object store to DownloaderError, by their code, message and status.

Source: "Error responses" in the Amazon S3 API reference, and the codes that other object stores
add.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...core.error_mapping import clipped
from ...core.errors import DownloaderError, ErrorCode
from . import documents, responses

__all__ = ["EXPIRED", "Refusal", "refusal", "refusal_error"]

EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
)
"""The codes of an object store that say that the session token is no longer valid."""

_LONGEST_CODE, _LONGEST_MESSAGE, _LONGEST_BODY = 80, 400, 160
_REDIRECTS = {301, 302, 303, 307, 308}
_NAMELESS = {403: "Forbidden", 404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_REGION_OF = re.compile(r"\bs3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com")


class Refusal(NamedTuple):
    """What a response without success says. Texts that it does not have are empty."""

    status: int
    code: str = ""
    message: str = ""
    region: str = ""
    """The region to which the object store refers."""
    location: str = ""
    """The target of a redirect, without user, query and fragment."""
    size: int | None = None
    """The size in bytes of the object of which a range was requested, None if not given."""
    foreign: bool = False
    """Whether the response cannot come from the object store."""

    @property
    def name(self) -> str:
        """The code, or without one the code that S3 uses for this status. Empty if none fits."""
        return self.code or _NAMELESS.get(self.status, "")

    @property
    def quote(self) -> str:
        """Code, message and status in one text, as an error quotes them."""
        quote = ": ".join(filter(None, (self.code, self.message)))
        return f"{quote}, status {self.status}" if quote else f"status {self.status}"


class _Meaning(NamedTuple):
    """An error, with what happened and what to do."""

    code: ErrorCode
    what: str
    """May contain `{subject}` and `{where}`."""
    advice: str


_POLICY = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the object store refused access to {subject}",
    "make sure that the policy of the credentials allows s3:GetObject and, for a prefix or a key"
    " that does not exist, s3:ListBucket",
)
_BUSY = _Meaning(
    ErrorCode.TIMEOUT,
    "the object store was too busy to serve {subject}",
    "the request is repeated later",
)
_EXPIRED = _Meaning(
    ErrorCode.CREDENTIALS_UNAVAILABLE,
    "the credentials for {subject} have expired",
    "check the device's token exchange role, or the AWS variables in the environment",
)
_CLOCK = _Meaning(
    ErrorCode.CREDENTIALS_UNAVAILABLE,
    "the object store refused {subject} because the device's clock is wrong",
    "set the clock",
)
_ELSEWHERE = _Meaning(
    ErrorCode.BUCKET_NOT_FOUND,
    "the bucket of {subject} is in another region{where}",
    "set AWS_REGION to that region, and if EndpointUrl is set, set it to the object store there",
)
_NO_BUCKET = _Meaning(
    ErrorCode.BUCKET_NOT_FOUND,
    "there is no bucket for {subject}",
    "check its name and EndpointUrl",
)
_NO_OBJECT = _Meaning(
    ErrorCode.OBJECT_NOT_FOUND,
    "there is no object {subject}",
    "check the key; upper and lower case matter",
)
_CHANGED = _Meaning(
    ErrorCode.SOURCE_CHANGED,
    "{subject} is no longer the object that was listed",
    "resume to fetch the new one",
)
_SHORTER = _Meaning(
    ErrorCode.SIZE_MISMATCH,
    "{subject} is smaller than in its listing",
    "resume to list it again",
)
_ARCHIVED = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "{subject} is in an archive storage class",
    "restore it first",
)
_UNKNOWN_KEY = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the object store of {subject} does not know the access key",
    "check AWS_ACCESS_KEY_ID or the role, and that EndpointUrl is the object store they belong to",
)
_WRONG_KEY = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the object store refused the signature of the request for {subject}",
    "check AWS_SECRET_ACCESS_KEY, and that no proxy changes requests",
)
_NOT_SUPPORTED = _Meaning(
    ErrorCode.ENGINE_FAILED,
    "the object store does not support the request for {subject}",
    "its message says what is missing",
)
_PROXY = _Meaning(
    ErrorCode.NETWORK_UNREACHABLE,
    "a proxy requires credentials to pass on requests for {subject}",
    "put them into the URL of the proxy in the environment",
)
_REFUSED = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the object store refused the request for {subject}",
    "its message says why",
)

_BY_CODE = {
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException", "Forbidden", "Unauthorized"), _POLICY
    ),
    **dict.fromkeys(EXPIRED, _EXPIRED),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), _CLOCK),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName"), _NO_BUCKET),
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion"), _NO_OBJECT),
    **dict.fromkeys(
        (
            "PermanentRedirect",
            "TemporaryRedirect",
            "MovedPermanently",
            "BucketRegionError",
            "IncorrectEndpoint",
            "IllegalLocationConstraintException",
        ),
        _ELSEWHERE,
    ),
    "PreconditionFailed": _CHANGED,
    "InvalidRange": _SHORTER,
    "InvalidObjectState": _ARCHIVED,
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": _WRONG_KEY,
    "NotImplemented": _NOT_SUPPORTED,
    **dict.fromkeys(
        (
            "SlowDown",
            "ServiceUnavailable",
            "InternalError",
            "RequestTimeout",
            "TooManyRequests",
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "OperationAborted",
        ),
        _BUSY,
    ),
}
_BY_STATUS = {407: _PROXY, 408: _BUSY, 429: _BUSY, 501: _NOT_SUPPORTED}


def refusal(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Return what a response without success says. Secrets are removed, long texts are cut."""
    try:
        root = documents.parse(body)
    except documents.NotXmlError:
        return _without_document(status, headers, body)
    fields = {element.tag: element.text or "" for element in root.iter()}
    code = clipped(fields.get("Code", ""), _LONGEST_CODE)
    endpoint = clipped(fields.get("Endpoint", ""), _LONGEST_CODE)
    size = responses.total(headers)
    return Refusal(
        status,
        code,
        clipped(fields.get("Message", ""), _LONGEST_MESSAGE),
        region=_region(headers, endpoint, fields.get("Region", "")),
        location=responses.redirect_target(headers) or endpoint,
        size=responses.number(fields.get("ActualObjectSize")) if size is None else size,
        foreign=not code and responses.is_foreign(status, headers, head=body),
    )


def refusal_error(refused: Refusal, subject: str, *, of_bucket: bool = False) -> DownloaderError:
    """Return the error for a refused request for `subject`, such as `s3://bucket/key`.

    `of_bucket` says that the bucket itself was requested, not one of its objects. The message
    quotes the object store. The details contain that text as `cause`, the HTTP `status`, and the
    object store's code as `store_code` if it has one.
    """
    if refused.foreign:
        return responses.foreign_error(subject, refused.status, {"location": refused.location})
    meaning = _meaning(refused, of_bucket)
    where = refused.region or refused.location
    what = meaning.what.format(subject=subject, where=f", {where}" if where else "")
    return DownloaderError(
        meaning.code,
        f"{what} ({refused.quote}); {meaning.advice}",
        cause=refused.quote,
        status=refused.status,
        **({"store_code": refused.code} if refused.code else {}),
    )


def _meaning(refused: Refusal, of_bucket: bool) -> _Meaning:
    if refused.name == "NoSuchKey" and of_bucket:
        return _NO_BUCKET
    if meaning := _BY_CODE.get(refused.name) or _BY_STATUS.get(refused.status):
        return meaning
    if refused.name == "AuthorizationHeaderMalformed" and refused.region:
        return _ELSEWHERE
    if refused.status >= 500:
        return _BUSY
    if refused.status in _REDIRECTS:
        return _ELSEWHERE
    if refused.status == 404:
        return _NO_BUCKET if of_bucket else _NO_OBJECT
    return _REFUSED


def _without_document(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Return what a refusal says whose body is not XML: JSON, plain text, a page, or nothing."""
    is_text = not responses.is_page(headers, body)
    return Refusal(
        status,
        message=clipped(body.decode(errors="replace"), _LONGEST_BODY) if is_text else "",
        region=_region(headers),
        location=responses.redirect_target(headers),
        size=responses.total(headers),
        foreign=responses.is_foreign(status, headers, head=body),
    )


def _region(headers: Mapping[str, str], endpoint: str = "", named: str = "") -> str:
    """Return the region to which a response refers, by name or by an address in it.

    Only a well-formed name of a region is accepted, because it becomes part of a host name. Empty
    if there is none.
    """
    if region := headers.get("x-amz-bucket-region") or named:
        return region if _REGION.fullmatch(region) else ""
    found = _REGION_OF.search(f"{endpoint} {headers.get('location', '')}")
    return found[1] if found else ""
