"""Opens the source for a URI. Has the table of URI schemes and sources."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode
from ..core.objects import SourceRef
from .base import Source
from .s3.object_metadata import ObjectMetadata
from .s3.source import S3Source

__all__ = ["RETRIES", "Open", "Sources", "sources_over"]

RETRIES = 3
"""How often a source repeats a request after a transient error, if its user does not."""


class Open(Protocol):
    """Creates a source of one kind."""

    def __call__(self, ref: SourceRef, *, accelerate: bool, retry_count: int) -> Source: ...


class Sources:
    """Opens sources. `by_scheme` has the kind of source for each URI scheme."""

    def __init__(self, by_scheme: Mapping[str, Open]) -> None:
        self._by_scheme = by_scheme

    def open(
        self, ref: SourceRef, *, accelerate: bool = False, retry_count: int = RETRIES
    ) -> Source:
        """Return the source at `ref`, without sending a request.

        `accelerate` fetches objects by S3 Transfer Acceleration. `retry_count` is how often the
        source repeats a request after a transient error; 0 if the caller repeats it. Raises
        UNSUPPORTED_SOURCE for a scheme that is not in the table.
        """
        if opener := self._by_scheme.get(ref.scheme):
            return opener(ref, accelerate=accelerate, retry_count=retry_count)
        known = ", ".join(f"{scheme}://" for scheme in sorted(self._by_scheme))
        raise DownloaderError(
            ErrorCode.UNSUPPORTED_SOURCE,
            f"this downloader cannot fetch from {ref.scheme}://, only from {known}; deploy a"
            " version that can, or choose another source",
            scheme=ref.scheme,
        )


def sources_over(metadata: ObjectMetadata, clock: Clock) -> Sources:
    """Return the table of all kinds of sources."""
    return Sources({"s3": partial(S3Source, metadata, clock)})
