"""What a failed request means: from the exceptions of Python's HTTP client to our errors."""

from __future__ import annotations

import ssl

from ...core.error_mapping import without_secrets
from ...core.errors import DownloaderError, ErrorCode, from_system

__all__ = ["SilenceError", "broken_off", "connection_error"]

_UNREACHABLE = "the store of {} cannot be reached; check the network and EndpointUrl"
_UNTRUSTED = (
    "the store of {} shows a certificate that is not trusted; check EndpointUrl, the device's clock"
    " and AWS_CA_BUNDLE"
)


class SilenceError(DownloaderError):
    """A server was silent for too long: TIMEOUT. `received` says what came of its response."""

    def __init__(self, subject: str, received: str, cause: str) -> None:
        super().__init__(
            ErrorCode.TIMEOUT,
            f"the store did not answer in time for {subject}; check the network",
            cause=cause,
        )
        self.received = received


def connection_error(error: Exception, subject: str) -> DownloaderError:
    """Return what it means that a request failed before its response was complete.

    `subject` is what the error names, such as `s3://bucket/key`; `error` an OSError, HTTPException
    or ValueError. It is a SilenceError for a TimeoutError, RESOURCES_EXHAUSTED where the device
    lacks open files or memory, and NETWORK_UNREACHABLE for all else. The details have the error as
    `cause`.
    """
    cause = without_secrets(f"{type(error).__name__}: {error}")
    if isinstance(error, TimeoutError):
        return SilenceError(subject, "next to nothing", cause)
    lack = from_system(error)
    if lack and lack.code is ErrorCode.RESOURCES_EXHAUSTED:
        return DownloaderError(lack.code, f"{subject}: {lack.message}", cause=cause)
    is_untrusted = isinstance(error, ssl.SSLCertVerificationError)
    message = (_UNTRUSTED if is_untrusted else _UNREACHABLE).format(subject)
    return DownloaderError(ErrorCode.NETWORK_UNREACHABLE, message, cause=cause)


def broken_off(subject: str, missing: int) -> DownloaderError:
    """Return the error for a response that ends `missing` bytes too early, without a word."""
    return DownloaderError(
        ErrorCode.NETWORK_UNREACHABLE,
        _UNREACHABLE.format(subject),
        cause=f"the response broke off, {missing} bytes before its end",
    )
