"""Sources are chosen by their schemes."""

from __future__ import annotations

import pytest

from s3downloader.core.clock import SystemClock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.core.objects import SourceRef
from s3downloader.sources.registry import sources_over
from s3downloader.sources.s3.client import S3Client
from s3downloader.sources.s3.credentials import Credentials
from s3downloader.sources.s3.object_metadata import ObjectMetadata
from s3downloader.sources.s3.source import S3Source


def test_a_scheme_says_which_kind_of_source_it_is() -> None:
    clock = SystemClock()
    sources = sources_over(ObjectMetadata(S3Client(None, Credentials({}, clock))), clock)
    ref = SourceRef("s3", "models", "vlm/")
    source = sources.open(ref)
    assert isinstance(source, S3Source)
    assert source.ref == ref


def test_an_unknown_scheme_is_refused_by_its_name() -> None:
    clock = SystemClock()
    sources = sources_over(ObjectMetadata(S3Client(None, Credentials({}, clock))), clock)
    with pytest.raises(
        DownloaderError, match=r"cannot fetch from gs://, only from s3://"
    ) as caught:
        sources.open(SourceRef("gs", "models", "vlm/"))
    assert caught.value.code is ErrorCode.UNSUPPORTED_SOURCE
