"""Turns the error texts of s5cmd into our errors, and removes secrets from texts.

Errors that our own code detects have their code from the start, and need no text to be read.
"""

from __future__ import annotations

import re

from .errors import DownloaderError, ErrorCode, Vanished

__all__ = ["acceleration_unsupported", "clipped", "explain", "without_secrets"]


class _Cause:
    """A kind of failure. A text means it if it contains one of `words`, in any case.

    `words` are regular expressions. `message` is the error's sentence.
    """

    def __init__(self, code: ErrorCode, *words: str, message: str) -> None:
        self.code = code
        self.pattern = re.compile("|".join(words), re.IGNORECASE)
        self.message = message


_CAUSES = (
    # This machine.
    _Cause(
        ErrorCode.DISK_FULL,
        "no space left on device",
        "disk quota exceeded",
        message="the disk became full while {subject} was fetched; free some space, then resume",
    ),
    _Cause(
        ErrorCode.DESTINATION_NOT_WRITABLE,
        "file too large",
        message="{subject} is too large for the destination's file system; choose another"
        " destination",
    ),
    _Cause(
        ErrorCode.DESTINATION_NOT_WRITABLE,
        "read-only file system",
        "permission denied",
        "operation not permitted",
        "input/output error",
        message="{subject} cannot be written to the destination; check that its disk works, and "
        "that the component's user may write there",
    ),
    _Cause(
        ErrorCode.RESOURCES_EXHAUSTED,
        "too many open files",
        "max open file limit",
        message="fetching {subject} needed too many open files; lower numworkers, or raise "
        "ulimit -n",
    ),
    _Cause(
        ErrorCode.RESOURCES_EXHAUSTED,
        "cannot allocate memory",
        "out of memory",
        "failed to create new OS thread",
        message="fetching {subject} needed more memory or threads than the device has; lower "
        "numworkers or MaxConcurrentDownloads",
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
        message="there are no valid credentials for {subject}; check the device's token exchange "
        "role, or the AWS variables in the environment",
    ),
    _Cause(
        ErrorCode.CREDENTIALS_UNAVAILABLE,
        "RequestTimeTooSkewed",
        message="the object store refused {subject} because the device's clock is wrong; set the "
        "clock",
    ),
    # Refusals of the object store.
    _Cause(
        ErrorCode.BUCKET_NOT_FOUND,
        "NoSuchBucket",
        "NotFound: ",
        message="the bucket of {subject} does not exist; check its name and EndpointUrl",
    ),
    _Cause(
        ErrorCode.BUCKET_NOT_FOUND,
        "BucketRegionError",
        "PermanentRedirect",
        "MovedPermanently",
        "AuthorizationHeaderMalformed",
        message="the bucket of {subject} is in another region; set AWS_REGION to that region",
    ),
    _Cause(
        ErrorCode.OBJECT_NOT_FOUND,
        "NoSuchKey",
        "given object .*not found",
        "status code: 404",
        message="the object {subject} does not exist; check the key, upper and lower case matter",
    ),
    _Cause(
        ErrorCode.SOURCE_CHANGED,
        "PreconditionFailed",
        "status code: 412",
        message="{subject} is no longer the object that was listed; resume to fetch the new one",
    ),
    _Cause(
        ErrorCode.SIZE_MISMATCH,
        "InvalidRange",
        "status code: 416",
        message="{subject} is smaller than its listing said; resume to list it again",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "InvalidObjectState",
        "on Glacier storage",
        message="{subject} is in an archive storage class; restore it first",
    ),
    _Cause(
        ErrorCode.ENGINE_FAILED,
        "NotImplemented",
        "status code: 501",
        message="the object store does not support the request for {subject}; try engine ranged",
    ),
    _Cause(
        ErrorCode.TIMEOUT,
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "TooManyRequests",
        "status code: (429|5[0-9][0-9])",
        message="the object store was too busy to serve {subject}; the request is repeated later",
    ),
    _Cause(
        ErrorCode.TIMEOUT,
        "timed? ?out",
        "timeout",
        "deadline exceeded",
        message="the object store did not respond in time for {subject}; check the network",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "InvalidAccessKeyId",
        message="the object store of {subject} does not know the access key; check "
        "AWS_ACCESS_KEY_ID or the role, and that EndpointUrl names the object store that they are "
        "for",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "SignatureDoesNotMatch",
        message="the object store refused the signature of the request for {subject}; check "
        "AWS_SECRET_ACCESS_KEY, and that no proxy changes requests",
    ),
    _Cause(
        ErrorCode.ACCESS_DENIED,
        "AccessDenied",
        "Forbidden",
        "BadRequest: ",
        "status code: 40[013]",
        message="the object store refused access to {subject}; check that the policy of the "
        "credentials allows s3:GetObject and, for a prefix, s3:ListBucket, or follow the advice of "
        "the object store",
    ),
    # The network.
    _Cause(
        ErrorCode.NETWORK_UNREACHABLE,
        "x509:",
        message="the certificate of the object store of {subject} is not trusted; check "
        "EndpointUrl, the device's clock and AWS_CA_BUNDLE",
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
        message="the object store of {subject} cannot be reached; check the network and "
        "EndpointUrl",
    ),
)
_GONE = re.compile(r"\.object\d*: no such file or directory")
"""What s5cmd says if the folder to which it downloads was removed (engines/staging.py)."""
_QUOTED = 400
_SECRETS = re.compile(
    r"((?:X-Amz-[\w-]+|AWSAccessKeyId|Credential|Signature|password|token)=|"
    r"X-Amz-Security-Token: *|"
    r"Authorization: *(?:(?:AWS4-HMAC-SHA256|AWS|Bearer|Basic) +)?)[^&\s\"',<]+",
    re.IGNORECASE,
)


def explain(text: str, subject: str) -> DownloaderError:
    """Return the error for a failure of `subject`, such as `s3://bucket/key`, reported by `text`.

    The details have the text as `cause`, without secrets. If the object store refused access, the
    error's sentence quotes the text too. A text of unknown meaning becomes ENGINE_FAILED.
    """
    text = without_secrets(text)
    without_subject = text.replace(subject, "")  # a key may contain any of the words
    for cause in _CAUSES:
        if cause.pattern.search(without_subject):
            message = cause.message.format(subject=subject)
            if cause.code is ErrorCode.ACCESS_DENIED:
                message = f"{message} ({clipped(text, _QUOTED)})"
            return DownloaderError(cause.code, message, cause=text)
    if _GONE.search(without_subject):
        message = f"the folder to which {subject} was written was removed; resume to fetch it again"
        return Vanished(message, cause=text)
    return DownloaderError(
        ErrorCode.ENGINE_FAILED,
        f"fetching {subject} failed with an unknown error ({clipped(text, _QUOTED)}); see the log",
        cause=text,
    )


def clipped(text: str, most: int) -> str:
    """Return a text as one line without secrets, cut to at most `most` characters."""
    text = " ".join(without_secrets(text).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def without_secrets(text: str) -> str:
    """Return a text without the credentials and signatures of URLs and requests."""
    return _SECRETS.sub(r"\1...", text)


def acceleration_unsupported(endpoint_url: str) -> DownloaderError:
    """Return the error for S3 Transfer Acceleration with `endpoint_url`, which is not AWS's own."""
    return DownloaderError(
        ErrorCode.INVALID_FIELD,
        "s3_transfer_acceleration works only with AWS's own endpoint; leave it out, or remove"
        f" EndpointUrl {endpoint_url} from the configuration",
        field="s3_transfer_acceleration",
    )
