"""A small file in transit: in memory until it is complete, then written and verified."""

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
    """Collects the bytes of a small file, and writes them to `path` when it is complete.

    `file.validator` is the object's own validator. The callbacks of `handler` run in the thread
    that reads the response, may block on the disk, and raise OSError.
    """

    def __init__(self, file: FileRecord, path: Path, disk: Disk, verifier: Verifier) -> None:
        self.arrived = 0
        """How many bytes have arrived."""
        self.expected: Expected | None = None
        """The object store's checksum, from the headers of the response."""
        self.mismatch: Mismatch | None = None
        """The mismatch that was found after writing the file, if any."""
        self._file = file
        self._path = path
        self._disk = disk
        self._verifier = verifier
        self._body = bytearray()

    @property
    def missing(self) -> tuple[int, int] | None:
        """The range to request (first offset, offset after the last byte), None for all."""
        return (self.arrived, self._file.size) if self.arrived else None

    def handler(self) -> ResponseHandler:
        """Return the callbacks for the response to a request for `missing`."""
        on_headers = None if self.arrived else self._on_headers
        return ResponseHandler(self._on_chunk, self.discard, on_headers)

    def discard(self) -> None:
        """Discard what has arrived."""
        self.arrived = 0
        self._body.clear()

    def write_empty(self) -> None:
        """Write an empty file. A response without bytes does not call `on_chunk`."""
        self._write(self._body)

    def _on_headers(self, headers: Mapping[str, str]) -> None:
        self.expected = self._verifier.checksum_from_headers(self._file, headers)

    def _on_chunk(self, chunk: memoryview) -> None:
        self.arrived += len(chunk)
        if self.arrived < self._file.size or self._body:
            self._body.extend(chunk)
        if self.arrived == self._file.size:
            self._write(self._body or chunk)

    def _write(self, body: bytearray | memoryview) -> None:
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
        )
        try:
            self._disk.write(descriptor, body, 0)
        finally:
            os.close(descriptor)
        self.mismatch = self._verifier.check_body(body, self._file, self.expected)
