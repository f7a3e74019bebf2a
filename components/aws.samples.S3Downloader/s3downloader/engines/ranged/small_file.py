"""A small file on its way: in memory until it is whole, then written and compared."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ...core.checksums import Expected, Mismatch
from ...core.records import FileRecord
from ..disk import Disk
from ..verification import Verifier
from .range_request import ResponseHandler

__all__ = ["SmallFile"]


class SmallFile:
    """Takes the bytes of a small file in a thread, and puts them at `path`.

    `file.validator` is the validator of its object. Errors of the disk are OSError.
    """

    def __init__(self, file: FileRecord, path: Path, disk: Disk, verifier: Verifier) -> None:
        self.arrived = 0
        """How many bytes are here."""
        self.expected: Expected | None = None
        """What the store told of its bytes."""
        self.mismatch: Mismatch | None = None
        """What does not fit, once it is written."""
        self._file = file
        self._path = path
        self._disk = disk
        self._verifier = verifier
        self._body = bytearray()

    @property
    def missing(self) -> tuple[int, int] | None:
        """The range to ask for, None for all of it."""
        return (self.arrived, self._file.size) if self.arrived else None

    def handler(self) -> ResponseHandler:
        """Return what takes the response to a request for what is missing."""
        on_headers = None if self.arrived else self._on_headers
        return ResponseHandler(self._on_chunk, self.drop, on_headers)

    def drop(self) -> None:
        """Forget what is here."""
        self.arrived = 0
        self._body.clear()

    def put_empty(self) -> None:
        """Write a file of no bytes, which no answer brings."""
        self._put(self._body)

    def _on_headers(self, headers: Mapping[str, str]) -> None:
        self.expected = self._verifier.checksum_from_headers(self._file, headers)

    def _on_chunk(self, chunk: memoryview) -> None:
        self.arrived += len(chunk)
        if self.arrived < self._file.size or self._body:
            self._body.extend(chunk)
        if self.arrived == self._file.size:
            self._put(self._body or chunk)

    def _put(self, body: bytearray | memoryview) -> None:
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
        )
        try:
            self._disk.write(descriptor, body, 0)
        finally:
            os.close(descriptor)
        self.mismatch = self._verifier.check_body(body, self._file, self.expected)
