"""What a source is: objects to list, to describe and to fetch, whatever kind of server has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from ..core.checksums import Expected
from ..core.errors import DownloaderError
from ..core.objects import ObjectRef, SourceRef
from .s3.client import Request

__all__ = ["Source"]


class Source(Protocol):
    """The objects at one SourceRef, and others of the same authority by their names.

    Its methods raise DownloaderError: among others OBJECT_NOT_FOUND, ACCESS_DENIED,
    CREDENTIALS_UNAVAILABLE, NETWORK_UNREACHABLE and TIMEOUT.
    """

    @property
    def ref(self) -> SourceRef:
        """Where the source is."""

    def list(self, *, after: str = "", page: int | None = None) -> AsyncIterator[ObjectRef]:
        """Go through the objects whose names begin with the path of `ref`, in the server's order.

        Empty objects that stand for folders are left out. Begins after the name `after`; asks for
        `page` objects at once, None for as many as the server lists. Raises LISTING_INCOMPLETE
        rather than leave objects out.
        """

    async def stat(self, name: str) -> ObjectRef:
        """Return one object; raise BUCKET_NOT_FOUND or OBJECT_NOT_FOUND where it is not there."""

    async def read_small(self, wanted: ObjectRef) -> bytes:
        """Return the bytes of a small object.

        Raises SOURCE_CHANGED where it has another validator or size by now.
        """

    async def checksum(self, wanted: ObjectRef) -> Expected | None:
        """Return the checksum that the server keeps of an object, the cheapest to compute.

        None where it keeps none that can be compared. Raises SOURCE_CHANGED where the object has
        another validator or size by now.
        """

    def checksum_in(self, headers: Mapping[str, str], wanted: ObjectRef) -> Expected | None:
        """Return the checksum of all of an object that a response with it has in its headers.

        The names of `headers` are in lower case.
        """

    def request(
        self, wanted: ObjectRef, span: tuple[int, int] | None, *, with_checksum: bool = False
    ) -> Request:
        """Return the GET of an object, pinned to its validator.

        `span` are the first byte to ask for and the one after the last, None for all of them.
        `with_checksum` has the server tell the checksum of all of the object in the headers.
        """

    def plainer(self, request: Request, error: DownloaderError) -> Request | None:
        """Return a refused request without what the server may have refused it for.

        None where it has nothing of that kind, or `error` does not look like it.
        """

    def plainer_succeeded(self) -> None:
        """Remember that a plainer request succeeded, so that the next begins that way."""
