"""A response of Python's HTTP client whose body is not read yet."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from io import BufferedReader

from .requests import ResponseHead

__all__ = ["CompleteHeadResponse", "StreamingResponse"]


class _NoLengthError(HTTPException):
    """The Content-Length of a response is not a number."""


class CompleteHeadResponse(HTTPResponse):
    """A response that refuses an incomplete head, which http.client accepts."""

    def begin(self) -> None:
        """Read the head.

        Raises IncompleteRead if the connection ends within the head, and what http.client raises.
        """
        self.fp = reader = _LastLineReader(self.fp.detach())
        super().begin()
        if not reader.last:
            raise IncompleteRead(b"")


class _LastLineReader(BufferedReader):
    """Stores the last line that was read. It is empty at the end of the stream."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class StreamingResponse:
    """A response, and the connection from which its body is read. All methods may block."""

    def __init__(
        self, connection: HTTPConnection, response: HTTPResponse, keep: Callable[[], None]
    ) -> None:
        """`keep` is called if the connection can be used for another request."""
        headers = {name.lower(): value for name, value in response.getheaders()}
        self.head = ResponseHead(response.status, headers)
        self._connection = connection
        self._response = response
        self._keep = keep
        self._is_broken = False

    @property
    def is_delimited(self) -> bool:
        """Whether the body has ended where the response said that it ends.

        False if it has not ended yet, or if only the end of the connection ends it.
        """
        if self._response.chunked:
            return self._response.isclosed() and not self._is_broken
        return self._response.length == 0

    def check_length(self) -> None:
        """Raise HTTPException if Content-Length is not a number: the body's end is unknown."""
        response = self._response
        is_unknown = response.length is None and not response.chunked
        if is_unknown and "content-length" in self.head.headers:
            raise _NoLengthError(self.head.headers["content-length"])

    def check_complete(self) -> None:
        """Raise IncompleteRead if the body ended too early. Call it when the body has ended."""
        if self._response.length or self._is_broken:
            raise IncompleteRead(b"", self._response.length)

    def read_some(self, buffer: memoryview) -> int:
        """Read a part of the body into `buffer`, and return its size in bytes.

        Waits for at least one byte. Returns 0 at the end of the body. Raises OSError,
        HTTPException and ValueError.
        """
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
            self._is_broken = True  # http.client closes it like a body that was read to its end
            raise

    def end(self, *, keep: bool = True) -> None:
        """Keep the connection if the body was read to its end and `keep` is set, else close it."""
        is_read = self._response.length == 0 or self._response.isclosed()
        self._response.close()
        if keep and is_read and not self._response.will_close:
            self._keep()
        else:
            self._connection.close()
