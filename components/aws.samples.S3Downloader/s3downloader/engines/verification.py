"""Whether the bytes that arrived are those of the object: what is compared, and how."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ..checksums import (
    CRCS,
    DEFAULT_CRC,
    Crc,
    Expected,
    Mismatch,
    can_check_ranges,
    check_blocks,
    check_file,
    check_ranges,
    md5_etag,
)
from ..errors import DownloaderError, ErrorCode
from ..heads import told
from ..records import FileRecord
from .base import FetchJob
from .staging import Staging
from .transfer import Transfer

__all__ = ["Heads", "Verifier", "block_of", "crc_for", "empty_answer", "label_of", "mismatch_error"]

log = logging.getLogger(__name__)

_ASK_FROM = 16 << 20
"""From this size on the store is asked for its checksum: a CRC costs no second read of the file.

Below it, the MD5 that an ETag may be costs less than the request.
"""


class Heads(Protocol):
    """What tells the checksums that a store keeps of its objects."""

    async def expected(self, bucket: str, key: str, etag: str, size: int) -> Expected | None:
        """Return the best that is known of an object; None where the store knows nothing.

        Raises SOURCE_CHANGED where it has another ETag.
        """

    def close_idle(self) -> None:
        """Close the connections that are kept for later."""


class Verifier:
    """Compares the files of one fetch with what the store, or the command, says of them."""

    def __init__(self, job: FetchJob, heads: Heads) -> None:
        self._job = job
        self._heads = heads

    async def expected(self, file: FileRecord) -> Expected | None:
        """Return the checksum that the store has of a file, None where it has none to compare."""
        if not self._job.options.verify or not file.size:
            return None
        by_etag = md5_etag(file.etag)
        if by_etag and file.size < _ASK_FROM:
            return by_etag
        return await self._ask(file)

    def told(self, file: FileRecord, headers: Mapping[str, str]) -> Expected | None:
        """Return what an answer with the whole object tells that its checksum is."""
        return told(headers, file.etag, file.size) if self._job.options.verify else None

    async def check_transfer(
        self, transfer: Transfer, expected: Expected | None
    ) -> tuple[str, Mismatch | None]:
        """Compare a file whose parts have arrived; without a second read where that can be."""
        if expected and expected.algorithm == transfer.crc.name:
            lengths = [length for length, _ in transfer.ranges]
            if can_check_ranges(expected, lengths):
                mismatch = check_ranges(expected, transfer.ranges)
                if mismatch or not transfer.file.sha256:
                    return expected.label, mismatch
                expected = None
        return await self.check_file(transfer.path, transfer.file, expected)

    async def check_file(
        self, path: Path, file: FileRecord, expected: Expected | None
    ) -> tuple[str, Mismatch | None]:
        """Read a file and compare it; return what it was compared with, and what does not fit.

        An MD5 that does not fit may be none: the ETag of an object that is encrypted with KMS only
        looks like one. Then the store is asked.
        """
        mismatch = await asyncio.to_thread(self.read, path, file, expected)
        if mismatch and mismatch.algorithm == "MD5" and expected == md5_etag(file.etag):
            expected = await self._ask(file)
            if expected and expected.algorithm == "MD5":
                return label_of(file, expected), mismatch
            mismatch = await asyncio.to_thread(self.read, path, file, expected)
        return label_of(file, expected), mismatch

    async def sift(
        self, staging: Staging, files: Iterable[FileRecord]
    ) -> tuple[list[FileRecord], list[tuple[FileRecord, Mismatch]]]:
        """Compare files in their places; return those that are good, and remove the others."""
        good, damaged = [], []
        for file in files:
            place = staging.place(file)
            label, mismatch = await self.check_file(place, file, await self.expected(file))
            if mismatch:
                log.warning("%s has a wrong checksum: %s", file.key, mismatch)
                place.unlink()
                damaged.append((file, mismatch))
            else:
                good.append(msgspec.structs.replace(file, checksum=label))
        return good, damaged

    def check_body(
        self, body: bytearray | memoryview, file: FileRecord, expected: Expected | None
    ) -> Mismatch | None:
        """Tell what does not fit of a file that is in memory."""
        given = [expected] if expected else []
        mismatches = check_blocks([body], file.size, given, file.sha256)
        return mismatches[0] if mismatches else None

    def read(self, path: Path, file: FileRecord, expected: Expected | None) -> Mismatch | None:
        """Read a file, and tell what does not fit. Blocks on the disk and raises OSError."""
        given = [expected] if expected else []
        if not given and not file.sha256:
            return None
        mismatches = check_file(path, given, file.sha256)
        return mismatches[0] if mismatches else None

    async def _ask(self, file: FileRecord) -> Expected | None:
        expected = await self._heads.expected(self._job.bucket, file.key, file.etag, file.size)
        return expected if expected and expected.layout(file.size) else None


def block_of(expected: Expected | None, size: int) -> int | None:
    """Return the bytes of the blocks that a composite checksum is made of, where all are alike."""
    layout = expected.layout(size) if expected and expected.composite else None
    if not layout or len({part.length for part in layout[:-1]} | {layout[0].length}) > 1:
        return None
    return layout[0].length


def label_of(file: FileRecord, expected: Expected | None) -> str:
    """Return by what a file is verified, as its record keeps it; empty for nothing."""
    if file.sha256:
        return f"SHA256:{file.sha256}"
    return expected.label if expected else ""


def crc_for(expected: Expected | None) -> Crc:
    """Return the CRC to take of the parts of an object: the store's own, if it has one."""
    return CRCS.get(expected.algorithm, DEFAULT_CRC) if expected else DEFAULT_CRC


def mismatch_error(job: FetchJob, file: FileRecord, mismatch: Mismatch) -> DownloaderError:
    """Return the error for a file that does not fit, although it was fetched twice."""
    return DownloaderError(
        ErrorCode.CHECKSUM_MISMATCH,
        f"s3://{job.bucket}/{file.key} arrived twice with a wrong checksum: {mismatch}; nothing"
        " of it is kept. Compare the object with its origin, then resume",
        algorithm=mismatch.algorithm,
        wanted=mismatch.wanted,
        got=mismatch.got,
    )


def empty_answer(job: FetchJob, file: FileRecord) -> DownloaderError:
    """Return the error for a request that was answered well, but with no byte."""
    return DownloaderError(
        ErrorCode.TIMEOUT,
        f"the store sends nothing of s3://{job.bucket}/{file.key}; it is asked again later",
    )
