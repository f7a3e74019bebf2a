"""The interface of a source: it lists, describes and reads the objects of one kind of server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from ..core.checksums import Expected
from ..core.errors import DownloaderError
from ..core.objects import ObjectRef, SourceRef
from .s3.client import Request

__all__ = ["Source"]


class Source(Protocol):
    """Access to the objects at one SourceRef, and to other objects of its authority by name.

    All methods that send a request raise DownloaderError: among others OBJECT_NOT_FOUND,
    ACCESS_DENIED, CREDENTIALS_UNAVAILABLE, NETWORK_UNREACHABLE and TIMEOUT.
    """

    @property
    def ref(self) -> SourceRef:
        """The place of the source."""

    def list(self, *, after: str = "", page: int | None = None) -> AsyncIterator[ObjectRef]:
        """Yield the objects whose names begin with the path of `ref`, in the server's order.

        Empty objects that represent folders are left out. The listing begins after the name
        `after`. Each request asks for `page` objects; None asks for as many as the server allows.
        Raises LISTING_INCOMPLETE if the server does not list all objects.
        """

    async def stat(self, name: str) -> ObjectRef:
        """Return one object. Raises BUCKET_NOT_FOUND or OBJECT_NOT_FOUND if it does not exist."""

    async def read_small(self, wanted: ObjectRef) -> bytes:
        """Return the bytes of a small object.

        Raises SOURCE_CHANGED if its validator or size has changed.
        """

    async def checksum(self, wanted: ObjectRef) -> Expected | None:
        """Return the server's checksum of an object, the one that is cheapest to compute.

        None if the server has no checksum that can be compared. Raises SOURCE_CHANGED if the
        object's validator or size has changed.
        """

    def checksum_in(self, headers: Mapping[str, str], wanted: ObjectRef) -> Expected | None:
        """Return the checksum of the complete object from the headers of a response with it.

        Names of `headers` are in lower case. None if they contain no checksum.
        """

    def request(
        self, wanted: ObjectRef, span: tuple[int, int] | None, *, with_checksum: bool = False
    ) -> Request:
        """Return a GET request for an object, pinned to its validator.

        `span` is the requested range: the offset of its first byte, and the offset after its last
        byte. None requests the complete object. `with_checksum` asks the server to send the
        checksum of the complete object in the headers.
        """

    def plainer(self, request: Request, error: DownloaderError) -> Request | None:
        """Return a refused request without the headers that may have caused the refusal.

        None if it has no such headers, or if they do not explain `error`.
        """

    def plainer_succeeded(self) -> None:
        """Record that a plainer request succeeded. Later requests then omit these headers."""
