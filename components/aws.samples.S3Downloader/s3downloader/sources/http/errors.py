"""What a failed request means: from the exceptions of Python's HTTP client to our errors."""

from __future__ import annotations

import ssl

from ...core.error_mapping import without_secrets
from ...core.errors import DownloaderError, ErrorCode, from_system

__all__ = ["connection_error"]

_SAYS = {
    ErrorCode.TIMEOUT: "the store did not answer in time for {}; check the network",
    ErrorCode.NETWORK_UNREACHABLE: (
        "the store of {} cannot be reached; check the network and EndpointUrl"
    ),
}
_UNTRUSTED = (
    "the store of {} shows a certificate that is not trusted; check EndpointUrl, the device's clock"
    " and AWS_CA_BUNDLE"
)


def connection_error(error: Exception, subject: str) -> DownloaderError:
    """Return what it means that a request for `subject` failed before its answer was whole.

    `subject` is what errors name, such as `s3://bucket/key`; `error` an OSError, HTTPException or
    ValueError. The code is TIMEOUT for silence, RESOURCES_EXHAUSTED where the device lacks open
    files or memory, and NETWORK_UNREACHABLE for all else. The details have the error as `cause`.
    """
    cause = without_secrets(f"{type(error).__name__}: {error}")
    lack = from_system(error)
    if lack and lack.code is ErrorCode.RESOURCES_EXHAUSTED:
        return DownloaderError(lack.code, f"{subject}: {lack.message}", cause=cause)
    is_silent = isinstance(error, TimeoutError)
    code = ErrorCode.TIMEOUT if is_silent else ErrorCode.NETWORK_UNREACHABLE
    says = _UNTRUSTED if isinstance(error, ssl.SSLCertVerificationError) else _SAYS[code]
    return DownloaderError(code, says.format(subject), cause=cause)
