"""How long an object store asks clients to wait (Retry-After)."""

from __future__ import annotations

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.request_timeouts import with_retry_after

NOW = "Wed, 25 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "86400"}, 3_600.0),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30 GMT", "date": NOW}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 09:00:00 GMT", "date": NOW}, None),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "\u0663"}, None),
        ({}, None),
    ],
)
def test_the_time_that_a_store_asks_for_is_read(
    headers: dict[str, str], seconds: float | None
) -> None:
    error = with_retry_after(DownloaderError(ErrorCode.TIMEOUT, "busy"), headers)
    assert error.details.get("retry_after") == seconds
