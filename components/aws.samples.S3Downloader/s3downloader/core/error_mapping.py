"""What the words of a program mean that we run, s5cmd: from a text to one of our errors.

What this code finds out itself carries its code from the beginning.
"""

from __future__ import annotations

import re

from .errors import DownloaderError, ErrorCode, Vanished

__all__ = ["acceleration_unsupported", "clipped", "explain", "without_secrets"]


class _Cause:
    """A failure that is told with one of some `words`, as regular expressions in any case."""

    def __init__(self, code: ErrorCode, *words: str, says: str) -> None:
        self.code = code
        self.pattern = re.compile("|".join(words), re.IGNORECASE)
        self.says = says


_CAUSES = (
    # This machine.
    _Cause(
        ErrorCode.DISK_FULL,
        "no space left on device",
        "disk quota exceeded",
        says="the disk filled up while {subject} was fetched; free some space, then resume",
    ),
    _Cause(
        ErrorCode.DESTINATION_NOT_WRITABLE,
        "file too large",
        says="the destination's file system takes no file as large as {subject}; choose another",
    ),
    _Cause(
        ErrorCode.DESTINATION_NOT_WRITABLE,
        "read-only file system",
        "permission denied",
        "operation not permitted",
        "input/output error",
        says="{subject} cannot be written to the destination; see that its disk is sound, and "
        "writable for the component's user",
    ),
    _Cause(
        ErrorCode.RESOURCES_EXHAUSTED,
        "too many open files",
        "max open file limit",
        says="fetching {subject} needed too many open files; lower numworkers, or raise ulimit -n",
    ),
    _Cause(
        ErrorCode.RESOURCES_EXHAUSTED,
        "cannot allocate memory",
        "out of memory",
        "failed to create new OS thread",
        says="fetching {subject} needed more memory or threads than there are; lower numworkers or "
        "MaxConcurrentDownloads",
    ),
    # Credentials.
    _Cause(
        ErrorCode.CREDENTIALS_UNAVAILABLE,
        "NoCredentialProviders",
        "CredentialsEndpointError",
        "EC2RoleRequestError",
        "SharedCredsLoad",
        "ExpiredToken",
        "InvalidToken",
        says="there are no valid credentials for {subject}; check the device's token exchange "
        "role, or the AWS variables in the environment",
    ),
    _Cause(
        ErrorCode.CREDENTIALS_UNAVAILABLE,
        "RequestTimeTooSkewed",
        says="the store refused {subject} because the device's clock is wrong; set the clock",
    ),
    # The store's answers.
    _Cause(
        ErrorCode.BUCKET_NOT_FOUND,
        "NoSuchBucket",
        "NotFound: ",
        says="there is no bucket for {subject}; check its name and EndpointUrl",
    ),
    _Cause(
        ErrorCode.BUCKET_NOT_FOUND,
        "BucketRegionError",
        "PermanentRedirect",
        "MovedPermanently",
        "AuthorizationHeaderMalformed",
        says="the bucket of {subject} lies in another region; set AWS_REGION to that",
    ),
    _Cause(
        ErrorCode.OBJECT_NOT_FOUND,
        "NoSuchKey",
        "given object .*not found",
        "status code: 404",
        says="there is no object {subject}; check the key, upper and lower case matter",
    ),
    _Cause(
        ErrorCode.SOURCE_CHANGED,
        "PreconditionFailed",
        "status code: 412",
        says="{subject} is no longer the object that was listed; resume to fetch the new one",
    ),
    _Cause(
        ErrorCode.SIZE_MISMATCH,
        "InvalidRange",
        "status code: 416",
        says="{subject} is smaller than its listing said; resume to list it again",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "InvalidObjectState",
        "on Glacier storage",
        says="{subject} lies in an archive storage class; restore it first",
    ),
    _Cause(
        ErrorCode.ENGINE_FAILED,
        "NotImplemented",
        "status code: 501",
        says="the store does not support what was asked of {subject}; try engine ranged",
    ),
    _Cause(
        ErrorCode.TIMEOUT,
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "TooManyRequests",
        "status code: (429|5[0-9][0-9])",
        says="the store was too busy to serve {subject}; it is asked again later",
    ),
    _Cause(
        ErrorCode.TIMEOUT,
        "timed? ?out",
        "timeout",
        "deadline exceeded",
        says="the store did not answer in time for {subject}; check the network",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "InvalidAccessKeyId",
        says="the store of {subject} does not know the access key; check AWS_ACCESS_KEY_ID or the "
        "role, and that EndpointUrl names the store they are for",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "SignatureDoesNotMatch",
        says="the store refused the signature of the request for {subject}; check "
        "AWS_SECRET_ACCESS_KEY, and that no proxy changes requests on their way",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "AccessDenied",
        "Forbidden",
        "BadRequest: ",
        "status code: 40[013]",
        says="the store refused access to {subject}; check that the policy of the credentials "
        "allows s3:GetObject and, for a prefix, s3:ListBucket, or do as the store says",
    ),
    # The way to the store.
    _Cause(
        ErrorCode.NETWORK_UNREACHABLE,
        "x509:",
        says="the store of {subject} shows a certificate that is not trusted; check EndpointUrl, "
        "the device's clock and AWS_CA_BUNDLE",
    ),
    _Cause(
        ErrorCode.NETWORK_UNREACHABLE,
        "connection refused",
        "connection reset",
        "broken pipe",
        "no such host",
        "no route to host",
        "network is unreachable",
        "server misbehaving",
        "dial tcp",
        "send request failed",
        "name or service not known",
        "name resolution",
        r"\bEOF\b",
        says="the store of {subject} cannot be reached; check the network and EndpointUrl",
    ),
)
_GONE = re.compile(r"\.object\d*: no such file or directory")
"""How s5cmd tells that the folder is gone to which it downloads (engines/staging.py)."""
_QUOTED = 400
_SECRETS = re.compile(
    r"((?:X-Amz-[\w-]+|AWSAccessKeyId|Credential|Signature|password|token)=|"
    r"X-Amz-Security-Token: *|"
    r"Authorization: *(?:(?:AWS4-HMAC-SHA256|AWS|Bearer|Basic) +)?)[^&\s\"',<]+",
    re.IGNORECASE,
)


def explain(text: str, subject: str) -> DownloaderError:
    """Return the error for a failure on `subject`, such as `s3://bucket/key`, told by `text`.

    The text goes into the details as `cause`, without the secrets of signed URLs; the sentence has
    it too where a store may explain its refusal. What nobody foresaw becomes ENGINE_FAILED.
    """
    text = without_secrets(text)
    without_subject = text.replace(subject, "")  # a key may hold any words
    for cause in _CAUSES:
        if cause.pattern.search(without_subject):
            says = cause.says.format(subject=subject)
            quoted = cause.code is ErrorCode.ACCESS_DENIED
            return DownloaderError(
                cause.code, f"{says} ({clipped(text, _QUOTED)})" if quoted else says, cause=text
            )
    if _GONE.search(without_subject):
        message = f"the folder that {subject} was written to is gone; resume to fetch it again"
        return Vanished(message, cause=text)
    return DownloaderError(
        ErrorCode.ENGINE_FAILED,
        f"fetching {subject} failed in a way nobody foresaw ({clipped(text, _QUOTED)}); see the log"
        " for more",
        cause=text,
    )


def clipped(text: str, most: int) -> str:
    """Return a text on one line, without secrets, of at most `most` characters."""
    text = " ".join(without_secrets(text).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def without_secrets(text: str) -> str:
    """Return a text without what signs URLs and requests."""
    return _SECRETS.sub(r"\1...", text)


def acceleration_unsupported(endpoint_url: str) -> DownloaderError:
    """Return the error for S3 Transfer Acceleration where `endpoint_url` is not AWS's own."""
    return DownloaderError(
        ErrorCode.INVALID_FIELD,
        "s3_transfer_acceleration works with AWS's own endpoint only; leave it out, or take"
        f" EndpointUrl {endpoint_url} out of the configuration",
        field="s3_transfer_acceleration",
    )
