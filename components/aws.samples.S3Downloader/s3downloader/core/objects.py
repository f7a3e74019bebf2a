"""Names of sources and of the objects in them, the same for every kind of source."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Layout", "ObjectRef", "SourceRef"]

Layout = Literal["file", "tree"]
"""What a source is: `file` for one object, `tree` for all objects below its path."""


class SourceRef(msgspec.Struct, frozen=True):
    """Where a download comes from: the URI `scheme://authority/path`, not encoded.

    For S3 the scheme is `s3`, the authority the bucket, and the path the key of an object or the
    prefix of many. Source of the words: RFC 3986, section 3.
    """

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        return self.uri_of(self.path)

    @property
    def root(self) -> str:
        """The URI without the path, which all objects of a bucket have in common."""
        return f"{self.scheme}://{self.authority}"

    def uri_of(self, name: str) -> str:
        """Return the URI of the object `name` of the same authority, for messages."""
        return f"{self.root}/{name}"


class ObjectRef(msgspec.Struct, frozen=True):
    """An object as its source described it.

    `name` is its whole name below the authority: for S3 the key. `size` is in bytes. `validator`
    tells one state of the object from another, in the form of `core.validators`; it is empty where
    the source has none. `modified` is the time of the last change in seconds since the epoch, None
    where the source does not say.
    """

    name: str
    size: int
    validator: str
    modified: float | None = None
