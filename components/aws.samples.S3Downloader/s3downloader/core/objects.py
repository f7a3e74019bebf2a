"""Identifies sources and their objects, in the same way for every kind of source."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Layout", "ObjectRef", "SourceRef"]

Layout = Literal["file", "tree"]
"""What a source is: `file` for one object, `tree` for all objects below its path."""


class SourceRef(msgspec.Struct, frozen=True):
    """The source of a download: the URI `scheme://authority/path`, not encoded.

    For S3 the scheme is `s3`, the authority is the bucket, and the path is the key of an object or
    a prefix. Source of the terms: RFC 3986, section 3.
    """

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        return self.uri_of(self.path)

    @property
    def root(self) -> str:
        """The URI without the path. All objects of a bucket have the same."""
        return f"{self.scheme}://{self.authority}"

    def uri_of(self, name: str) -> str:
        """Return the URI of the object `name` at the same authority."""
        return f"{self.root}/{name}"


class ObjectRef(msgspec.Struct, frozen=True):
    """An object as its source describes it.

    `name` is its complete name at the authority: for S3 the key. `size` is in bytes. `validator`
    changes when the object changes, see `core.validators`; it is empty if the source has none.
    `modified` is the time of the last change, in seconds since the epoch; None if the source does
    not say.
    """

    name: str
    size: int
    validator: str
    modified: float | None = None
