"""A response whose body is still to be read, over Python's HTTP client."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from io import BufferedReader

from .requests import ResponseHead

__all__ = ["CompleteHeadResponse", "StreamingResponse"]


class _NoLengthError(HTTPException):
    """The response's Content-Length is no number of bytes."""


class CompleteHeadResponse(HTTPResponse):
    """A response whose head is complete: http.client accepts one that breaks off."""

    def begin(self) -> None:
        """Read the head. Raises IncompleteRead where it breaks off, and as http.client does."""
        self.fp = lines = _Lines(self.fp.detach())
        super().begin()
        if not lines.last:
            raise IncompleteRead(b"")


class _Lines(BufferedReader):
    """Keeps the last line that was read, which is empty at the end of a file."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class StreamingResponse:
    """A response, and the connection on which its body comes."""

    def __init__(
        self, connection: HTTPConnection, response: HTTPResponse, keep: Callable[[], None]
    ) -> None:
        """`keep` keeps the connection for another request."""
        headers = {name.lower(): value for name, value in response.getheaders()}
        self.head = ResponseHead(response.status, headers)
        self._connection = connection
        self._response = response
        self._keep = keep
        self._is_broken = False

    @property
    def is_delimited(self) -> bool:
        """Whether the body has ended where the response says, rather than with the connection."""
        if self._response.chunked:
            return self._response.isclosed() and not self._is_broken
        return self._response.length == 0

    def check_length(self) -> None:
        """Raise where nobody can know where the body ends, as Content-Length is no number."""
        response = self._response
        is_unknown = response.length is None and not response.chunked
        if is_unknown and "content-length" in self.head.headers:
            raise _NoLengthError(self.head.headers["content-length"])

    def check_complete(self) -> None:
        """Raise IncompleteRead where the body has ended, and should not have."""
        if self._response.length or self._is_broken:
            raise IncompleteRead(b"", self._response.length)

    def read_some(self, buffer: memoryview) -> int:
        """Read what is there of the body into `buffer`; wait for a byte at least, 0 is the end."""
        response = self._response
        if response.chunked:
            chunk = self._read_chunk(len(buffer))
            buffer[: len(chunk)] = chunk
            return len(chunk)
        if response.length is None:
            return response.fp.readinto1(buffer)
        if not response.length:
            return 0
        count = response.fp.readinto1(buffer[: response.length])
        response.length -= count
        return count

    def _read_chunk(self, most: int) -> bytes:
        try:
            return self._response.read1(most)
        except HTTPException:
            self._is_broken = True  # http.client closes it as if it had come to its end
            raise

    def end(self, *, keep: bool = True) -> None:
        """Release the connection: it is kept, unless the body was not read to its end."""
        is_read = self._response.length == 0 or self._response.isclosed()
        self._response.close()
        if keep and is_read and not self._response.will_close:
            self._keep()
        else:
            self._connection.close()
