"""What a store's refusal means: from its code, its message and its status to one of our errors.

Source: "Error responses" in the Amazon S3 API reference, and the codes that other stores add.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...core.error_mapping import clipped
from ...core.errors import DownloaderError, ErrorCode
from . import documents, responses

__all__ = ["EXPIRED", "Refusal", "explained", "refusal"]

EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
)
"""The codes that say that the session token is good no more."""

_LONGEST_CODE, _LONGEST_MESSAGE, _LONGEST_BODY = 80, 400, 160
_REDIRECTS = {301, 302, 303, 307, 308}
_NAMELESS = {403: "Forbidden", 404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_REGION_OF = re.compile(r"\bs3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com")


class Refusal(NamedTuple):
    """What an answer that is no success says; a text is empty where it says nothing of it."""

    status: int
    code: str = ""
    message: str = ""
    region: str = ""
    """The region that the store points to."""
    location: str = ""
    """Where a redirect points."""
    size: int | None = None
    """The bytes of the object that a range was asked of."""
    foreign: bool = False
    """Whether it cannot be the store's own."""

    @property
    def name(self) -> str:
        """The code, or what S3 would have called a refusal of that status."""
        return self.code or _NAMELESS.get(self.status, "")

    @property
    def words(self) -> str:
        """What the store said, in its own words."""
        words = ": ".join(filter(None, (self.code, self.message)))
        return f"{words}, status {self.status}" if words else f"status {self.status}"


class _Meaning(NamedTuple):
    code: ErrorCode
    what: str
    advice: str


_POLICY = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the store refused access to {subject}",
    "see that the policy of its credentials allows s3:GetObject and, for a prefix or a key that is"
    " not there, s3:ListBucket",
)
_BUSY = _Meaning(
    ErrorCode.TIMEOUT,
    "the store was too busy to serve {subject}",
    "it is asked again later",
)
_EXPIRED = _Meaning(
    ErrorCode.CREDENTIALS_UNAVAILABLE,
    "the credentials for {subject} have expired",
    "check the device's token exchange role, or the AWS variables in the environment",
)
_CLOCK = _Meaning(
    ErrorCode.CREDENTIALS_UNAVAILABLE,
    "the store refused {subject} because the device's clock is wrong",
    "set the clock",
)
_ELSEWHERE = _Meaning(
    ErrorCode.BUCKET_NOT_FOUND,
    "the bucket of {subject} lies in another region{where}",
    "set AWS_REGION to that, and EndpointUrl to the store of that region if one is set",
)
_NO_BUCKET = _Meaning(
    ErrorCode.BUCKET_NOT_FOUND,
    "there is no bucket for {subject}",
    "check its name and EndpointUrl",
)
_NO_OBJECT = _Meaning(
    ErrorCode.OBJECT_NOT_FOUND,
    "there is no object {subject}",
    "check the key, upper and lower case matter",
)
_CHANGED = _Meaning(
    ErrorCode.SOURCE_CHANGED,
    "{subject} is no longer the object that was listed",
    "resume to fetch the new one",
)
_SHORTER = _Meaning(
    ErrorCode.SIZE_MISMATCH,
    "{subject} is smaller than its listing said",
    "resume to list it again",
)
_ARCHIVED = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "{subject} lies in an archive storage class",
    "restore it first",
)
_UNKNOWN_KEY = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the store of {subject} does not know the access key",
    "check AWS_ACCESS_KEY_ID or the role, and that EndpointUrl names the store they are for",
)
_WRONG_KEY = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the store refused the signature of the request for {subject}",
    "check AWS_SECRET_ACCESS_KEY, and that no proxy changes requests on their way",
)
_NOT_SUPPORTED = _Meaning(
    ErrorCode.ENGINE_FAILED,
    "the store does not support what was asked of {subject}",
    "its own words say what",
)
_PROXY = _Meaning(
    ErrorCode.NETWORK_UNREACHABLE,
    "a proxy wants credentials before it passes requests for {subject} on",
    "put them into the address of the proxy in the environment",
)
_REFUSED = _Meaning(
    ErrorCode.ACCESS_DENIED,
    "the store refused {subject}",
    "its own words say why",
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
    """Return what an answer that is no success says. Secrets are removed, texts bounded."""
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


def explained(refused: Refusal, subject: str, *, of_bucket: bool = False) -> DownloaderError:
    """Return the error for a refusal of `subject`, such as `s3://bucket/key`.

    The sentence has the store's own words. `of_bucket` says that the bucket itself was asked, not
    one of its objects. The details have those words as `cause`, the `status`, and the `store_code`
    where there is one.
    """
    if refused.foreign:
        return responses.foreign(subject, refused.status, {"location": refused.location})
    meaning = _meaning(refused, of_bucket)
    where = refused.region or refused.location
    what = meaning.what.format(subject=subject, where=f", {where}" if where else "")
    return DownloaderError(
        meaning.code,
        f"{what} ({refused.words}); {meaning.advice}",
        cause=refused.words,
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
    """Return what an answer says that is no document of a store: JSON, plain text, or nothing."""
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
    """Return the region that an answer points to, by its name or by an address there.

    It becomes part of a host's name, so nothing else than a region's name is taken.
    """
    if region := headers.get("x-amz-bucket-region") or named:
        return region if _REGION.fullmatch(region) else ""
    found = _REGION_OF.search(f"{endpoint} {headers.get('location', '')}")
    return found[1] if found else ""
