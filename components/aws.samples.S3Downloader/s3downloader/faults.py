"""What a failure means: from the words of s5cmd, botocore, Python's own HTTP client or the
kernel to one of our errors."""

from __future__ import annotations

import re

from .errors import DownloaderError, ErrorCode, Vanished

__all__ = ["explain", "unaccelerated"]


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
        "can't start new thread",
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
        "Unable to locate credentials",
        "Partial credentials found",
        "retrieving credentials",
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
        "AccessDenied",
        "Forbidden",
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "BadRequest: ",
        "status code: 40[013]",
        says="the store refused access to {subject}; check the credentials, and that their policy "
        "allows s3:GetObject and, for a prefix, s3:ListBucket",
    ),
    # The way to the store.
    _Cause(
        ErrorCode.NETWORK_UNREACHABLE,
        "x509:",
        "certificate verify failed",
        says="the store of {subject} shows a certificate that is not trusted; check EndpointUrl, "
        "the device's clock and AWS_CA_BUNDLE",
    ),
    _Cause(
        ErrorCode.NETWORK_UNREACHABLE,
        "connection refused",
        "connection reset",
        "connection was closed",
        "broken pipe",
        "no such host",
        "no route to host",
        "network is unreachable",
        "server misbehaving",
        "dial tcp",
        "send request failed",
        "could not connect",
        "name or service not known",
        "name resolution",
        "RemoteDisconnected",
        "IncompleteRead",
        "BadStatusLine",
        r"\bEOF\b",
        says="the store of {subject} cannot be reached; check the network and EndpointUrl",
    ),
)
_GONE = re.compile(r"\.object\d*: no such file or directory")
"""How s5cmd tells that the folder is gone to which it downloads (engines/staging.py)."""
_SECRETS = re.compile(r"(X-Amz-[\w-]+=)[^&\s\"']+", re.IGNORECASE)


def explain(text: str, subject: str) -> DownloaderError:
    """Return the error for a failure on `subject`, such as `s3://bucket/key`, told by `text`.

    The text goes into the details as `cause`, without the secrets of signed URLs. What nobody
    foresaw becomes ENGINE_FAILED.
    """
    text = _SECRETS.sub(r"\1...", text)
    told = text.replace(subject, "")  # a key may hold any words
    for cause in _CAUSES:
        if cause.pattern.search(told):
            return DownloaderError(cause.code, cause.says.format(subject=subject), cause=text)
    if _GONE.search(told):
        message = f"the folder that {subject} was written to is gone; resume to fetch it again"
        return Vanished(message, cause=text)
    return DownloaderError(
        ErrorCode.ENGINE_FAILED,
        f"fetching {subject} failed in a way nobody foresaw; the details have its words",
        cause=text,
    )


def unaccelerated(endpoint_url: str) -> DownloaderError:
    """Return the error for S3 Transfer Acceleration where `endpoint_url` is not AWS's own."""
    return DownloaderError(
        ErrorCode.INVALID_FIELD,
        "s3_transfer_acceleration works with AWS's own endpoint only; leave it out, or take"
        f" EndpointUrl {endpoint_url} out of the configuration",
        field="s3_transfer_acceleration",
    )
