"""Verifies files: compares their bytes with checksums and sizes of their objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..core.checksums import (
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
from ..core.errors import DownloaderError, ErrorCode
from ..core.records import FileRecord
from ..sources.base import Source
from .base import FetchJob
from .ranged.transfer import Transfer
from .staging import Staging

__all__ = ["Verifier", "block_of", "crc_for", "label_of", "mismatch_error"]

log = logging.getLogger(__name__)

_REQUEST_CHECKSUM_FROM = 16 << 20
"""From this size in bytes on, the object store's checksum is requested, even if the ETag is an MD5.

A CRC needs no second read of the file. For smaller files, computing the MD5 costs less than a
request.
"""

_GONE = {ErrorCode.SOURCE_CHANGED, ErrorCode.OBJECT_NOT_FOUND}


class VerifiedFiles(NamedTuple):
    """The result of verifying files. Only those in `good` are kept."""

    good: list[FileRecord]
    damaged: list[tuple[FileRecord, Mismatch]]
    gone: list[tuple[FileRecord, DownloaderError]]
    """Files whose objects were replaced or removed in the meantime."""


class Verifier:
    """Verifies the files of one fetch.

    If a SHA-256 was given for a file, it decides alone, because the object store may give something
    that is not a checksum, such as an ETag that only looks like an MD5. Otherwise the object
    store's checksum is compared. With `verify: false` only a given SHA-256 is.
    """

    def __init__(self, job: FetchJob, source: Source) -> None:
        self._job = job
        self._source = source

    async def expected(self, file: FileRecord) -> Expected | None:
        """Return the object store's checksum of a file, None if there is nothing to compare.

        Raises as `Source.checksum`.
        """
        if not self._job.options.verify:
            return None
        md5 = md5_etag(file.validator)
        if not file.size or (md5 and file.size < _REQUEST_CHECKSUM_FROM):
            return md5
        return await self._request_checksum(file)

    def checksum_from_headers(
        self, file: FileRecord, headers: Mapping[str, str]
    ) -> Expected | None:
        """Return the checksum in the headers of a response with the complete object, or None."""
        if not self._job.options.verify:
            return None
        return self._source.checksum_in(headers, file.object)

    async def own_validator(self, file: FileRecord) -> str:
        """Request the object's own validator, which may differ from its listing.

        Raises SOURCE_CHANGED if its size differs from the listing, and as `Source.stat`.
        """
        found = await self._source.stat(file.name)
        if found.size != file.size:
            raise DownloaderError(
                ErrorCode.SOURCE_CHANGED,
                f"{self._job.source.uri_of(file.name)} is no longer the object that was listed;"
                " resume to fetch the new one",
            )
        return found.validator

    async def check_transfer(
        self, transfer: Transfer, expected: Expected | None
    ) -> tuple[str, Mismatch | None]:
        """Verify a file that arrived in parts, without a second read if possible.

        Returns and raises as `check_file`.
        """
        mismatch: Mismatch | None = None
        if expected and expected.algorithm == transfer.crc.name:
            lengths = [length for length, _ in transfer.ranges]
            if can_check_ranges(expected, lengths):
                mismatch = check_ranges(expected, transfer.ranges)
                if not transfer.file.sha256:
                    return expected.label, mismatch
        label, found = await self.check_file(transfer.path, transfer.file, expected)
        if found and mismatch:
            found = msgspec.structs.replace(found, damaged=mismatch.damaged)
        return label, found

    async def check_file(
        self, path: Path, file: FileRecord, expected: Expected | None
    ) -> tuple[str, Mismatch | None]:
        """Read and verify a file. Return with what it was compared, and the mismatch, if any.

        If the MD5 from an ETag does not match, the checksum is requested, because the ETag of an
        object that is encrypted with KMS only looks like an MD5. Raises OSError, and as
        `Source.checksum`.
        """
        mismatch = await asyncio.to_thread(self.read, path, file, expected)
        if mismatch and mismatch.algorithm == "MD5" and expected == md5_etag(file.validator):
            expected = await self._request_checksum(file)
            if expected and expected.algorithm == "MD5":
                return label_of(file, expected), mismatch
            mismatch = await asyncio.to_thread(self.read, path, file, expected)
        return label_of(file, expected), mismatch

    async def verify_staged(self, staging: Staging, files: Iterable[FileRecord]) -> VerifiedFiles:
        """Verify staged files, and delete those that are not good. Raises as `check_file`."""
        verified = VerifiedFiles([], [], [])
        for file in files:
            path = staging.staged_path(file)
            try:
                label, mismatch = await self.check_file(path, file, await self.expected(file))
            except DownloaderError as error:
                if error.code not in _GONE:
                    raise
                log.warning("%s is deleted: %s", file.name, error)
                path.unlink()
                verified.gone.append((file, error))
                continue
            if mismatch:
                log.warning("%s has a wrong checksum: %s", file.name, mismatch)
                path.unlink()
                verified.damaged.append((file, mismatch))
            else:
                verified.good.append(msgspec.structs.replace(file, checksum=label))
        return verified

    def check_body(
        self, body: bytearray | memoryview, file: FileRecord, expected: Expected | None
    ) -> Mismatch | None:
        """Verify a file that is in memory. Return the mismatch, if any."""
        given = _compared_with(file, expected)
        mismatches = check_blocks([body], file.size, given, file.sha256)
        return mismatches[0] if mismatches else None

    def read(self, path: Path, file: FileRecord, expected: Expected | None) -> Mismatch | None:
        """Read and verify a file. Return the mismatch, if any. Blocks, and raises OSError."""
        given = _compared_with(file, expected)
        if not given and not file.sha256:
            return None
        mismatches = check_file(path, given, file.sha256)
        return mismatches[0] if mismatches else None

    async def _request_checksum(self, file: FileRecord) -> Expected | None:
        try:
            expected = await self._source.checksum(file.object)
        except DownloaderError as error:
            if error.code is not ErrorCode.SOURCE_CHANGED or not self._job.relisted:
                raise
            own = msgspec.structs.replace(file.object, validator=await self.own_validator(file))
            expected = await self._source.checksum(own)
        return expected if expected and expected.layout(file.size) else None


def _compared_with(file: FileRecord, expected: Expected | None) -> list[Expected]:
    """Return the checksums to compare besides a given SHA-256. With that, there are none."""
    return [expected] if expected and not file.sha256 else []


def block_of(expected: Expected | None, size: int) -> int | None:
    """Return the size in bytes of the blocks of a composite checksum.

    The last block may be smaller. None if the others differ, or if the checksum is not composite.
    """
    layout = expected.layout(size) if expected and expected.composite else None
    if not layout or len({part.length for part in layout[:-1]} | {layout[0].length}) > 1:
        return None
    return layout[0].length


def label_of(file: FileRecord, expected: Expected | None) -> str:
    """Return the `checksum` of a file's record: what it is compared with, empty for nothing."""
    if file.sha256:
        return f"SHA256:{file.sha256}"
    return expected.label if expected else ""


def crc_for(expected: Expected | None) -> Crc:
    """Return the CRC to compute for the parts of an object: that of `expected` if it is a CRC."""
    return CRCS.get(expected.algorithm, DEFAULT_CRC) if expected else DEFAULT_CRC


def mismatch_error(job: FetchJob, file: FileRecord, mismatch: Mismatch) -> DownloaderError:
    """Return the error for a file with a wrong checksum that was fetched twice."""
    advice = "compare the object with the original, then resume"
    if mismatch.algorithm == "MD5":
        advice = (
            "either the object is damaged, or the object store's ETag is not an MD5; in that case"
            " give the sha256 of the file, or set verify to false"
        )
    return DownloaderError(
        ErrorCode.CHECKSUM_MISMATCH,
        f"{job.source.uri_of(file.name)} arrived twice with a wrong checksum: {mismatch}; the file"
        f" is deleted; {advice}",
        algorithm=mismatch.algorithm,
        wanted=mismatch.wanted,
        got=mismatch.got,
    )
