"""Makes the address of an object, and signs requests for it.

Sources: "Virtual hosting of buckets" and "Signature Version 4" in the Amazon S3 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSignedBodyValue,
    AwsSigningAlgorithm,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.exceptions import AwsCrtError
from awscrt.http import HttpHeaders
from awscrt.http import HttpRequest as UnsignedRequest

from ...core.error_mapping import without_secrets
from ...core.errors import DownloaderError, ErrorCode
from ..http.requests import HttpRequest
from .credentials import Keys

__all__ = ["address", "signed"]

_SECONDS = 5.0
"""Time limit for a signature, which usually takes some microseconds."""


def address(
    endpoint_url: str | None, region: str, bucket: str, key: str, accelerate: bool = False
) -> tuple[str, str, str]:
    """Return scheme, host and path of an object, or of the bucket itself if `key` is empty.

    The path is percent-encoded once and not normalised. With AWS, the host contains the bucket,
    unless the bucket's name contains a dot, because then no certificate matches the host. With
    another endpoint, the path contains the bucket.
    """
    path = "/" + quote(key, safe="/")
    below = path if key else ""
    if endpoint_url:
        url = urlsplit(endpoint_url)
        return url.scheme, url.netloc, f"{url.path.rstrip('/')}/{bucket}{below}"
    if accelerate:
        return "https", f"{bucket}.s3-accelerate.amazonaws.com", path
    host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
    if "." in bucket:
        return "https", host, f"/{bucket}{below}"
    return "https", f"{bucket}.{host}", path


def signed(request: HttpRequest, keys: Keys, region: str) -> Mapping[str, str]:
    """Return the headers of a request, with its host and its signature (Signature Version 4).

    Raises CREDENTIALS_UNAVAILABLE if nothing can be signed with `keys`.
    """
    headers = HttpHeaders([("host", request.host), *request.headers.items()])
    unsigned = UnsignedRequest(request.method, request.path, headers)
    config = AwsSigningConfig(
        algorithm=AwsSigningAlgorithm.V4,
        signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=AwsCredentialsProvider.new_static(
            keys.access_key_id, keys.secret_access_key, keys.token
        ),
        region=region,
        service="s3",
        use_double_uri_encode=False,
        should_normalize_uri_path=False,
        signed_body_value=AwsSignedBodyValue.EMPTY_SHA256,
        signed_body_header_type=AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
    )
    try:
        return dict(aws_sign_request(unsigned, config).result(_SECONDS).headers)
    except AwsCrtError as error:
        raise DownloaderError(
            ErrorCode.CREDENTIALS_UNAVAILABLE,
            f"the request for {request.subject} cannot be signed with the credentials; check the"
            " device's token exchange role, or the AWS variables in the environment",
            cause=without_secrets(str(error)),
        ) from error
