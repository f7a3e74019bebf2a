"""Converts exceptions of Python's HTTP client to DownloaderError."""

from __future__ import annotations

import ssl

from ...core.error_mapping import without_secrets
from ...core.errors import DownloaderError, ErrorCode, from_system

__all__ = ["SilenceError", "broken_off", "connection_error"]

_UNREACHABLE = "the object store of {} cannot be reached; check the network and EndpointUrl"
_UNTRUSTED = (
    "the object store of {} has a certificate that is not trusted; check EndpointUrl, the device's"
    " clock and AWS_CA_BUNDLE"
)


class SilenceError(DownloaderError):
    """A server was silent for too long. Its code is TIMEOUT.

    `received` is the subject of a sentence, and says how much of the response arrived.
    """

    def __init__(self, subject: str, received: str, cause: str) -> None:
        super().__init__(
            ErrorCode.TIMEOUT,
            f"the object store did not respond in time for {subject}; check the network",
            cause=cause,
        )
        self.received = received


def connection_error(error: Exception, subject: str) -> DownloaderError:
    """Return the error for a request that failed before its response was complete.

    `error` is an OSError, an HTTPException or a ValueError. `subject` is what was requested, such
    as `s3://bucket/key`.

    For a TimeoutError it is a SilenceError. If the device is out of open files or memory, its code
    is RESOURCES_EXHAUSTED. Otherwise it is NETWORK_UNREACHABLE. The details contain `error` as
    `cause`, without secrets.
    """
    cause = without_secrets(f"{type(error).__name__}: {error}")
    if isinstance(error, TimeoutError):
        return SilenceError(subject, "almost nothing", cause)
    lack = from_system(error)
    if lack and lack.code is ErrorCode.RESOURCES_EXHAUSTED:
        return DownloaderError(lack.code, f"{subject}: {lack.message}", cause=cause)
    is_untrusted = isinstance(error, ssl.SSLCertVerificationError)
    message = (_UNTRUSTED if is_untrusted else _UNREACHABLE).format(subject)
    return DownloaderError(ErrorCode.NETWORK_UNREACHABLE, message, cause=cause)


def broken_off(subject: str, missing: int) -> DownloaderError:
    """Return the error for a response whose connection ended `missing` bytes too early."""
    return DownloaderError(
        ErrorCode.NETWORK_UNREACHABLE,
        _UNREACHABLE.format(subject),
        cause=f"the response broke off, {missing} bytes before its end",
    )
