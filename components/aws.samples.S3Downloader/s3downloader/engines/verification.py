"""Whether the bytes that arrived are those of the object: what is compared, and how."""

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

_ASK_FROM = 16 << 20
"""From this size on the store is asked for its checksum: a CRC costs no second read of the file.

Below it, the MD5 that an ETag may be costs less than the request.
"""

_GONE = {ErrorCode.SOURCE_CHANGED, ErrorCode.OBJECT_NOT_FOUND}


class VerifiedFiles(NamedTuple):
    """Files that have been compared: the good ones, and why the others are not."""

    good: list[FileRecord]
    damaged: list[tuple[FileRecord, Mismatch]]
    gone: list[tuple[FileRecord, DownloaderError]]
    """Those whose objects are others by now, or not there any more."""


class Verifier:
    """Compares the files of one fetch with what the command, or else the store, says of them.

    A SHA-256 that was given decides by itself: a store's checksum may be none, such as an ETag that
    only looks like an MD5.
    """

    def __init__(self, job: FetchJob, source: Source) -> None:
        self._job = job
        self._source = source

    async def expected(self, file: FileRecord) -> Expected | None:
        """Return the checksum that the store has of a file, None where it has none to compare."""
        if not self._job.options.verify:
            return None
        md5 = md5_etag(file.validator)
        if not file.size or (md5 and file.size < _ASK_FROM):
            return md5
        return await self._ask(file)

    def checksum_from_headers(
        self, file: FileRecord, headers: Mapping[str, str]
    ) -> Expected | None:
        """Return what an answer with the whole object tells that its checksum is."""
        if not self._job.options.verify:
            return None
        return self._source.checksum_in(headers, file.object)

    async def own_validator(self, file: FileRecord) -> str:
        """Return the validator that the object itself has, whatever its listing tells.

        Raises SOURCE_CHANGED where its size is not the listed one.
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
        """Compare a file whose parts have arrived; without a second read where that can be."""
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
        """Read a file and compare it; return what it was compared with, and what does not fit.

        An MD5 that does not fit may be none: the ETag of an object that is encrypted with KMS only
        looks like one. Then the store is asked.
        """
        mismatch = await asyncio.to_thread(self.read, path, file, expected)
        if mismatch and mismatch.algorithm == "MD5" and expected == md5_etag(file.validator):
            expected = await self._ask(file)
            if expected and expected.algorithm == "MD5":
                return label_of(file, expected), mismatch
            mismatch = await asyncio.to_thread(self.read, path, file, expected)
        return label_of(file, expected), mismatch

    async def verify_staged(self, staging: Staging, files: Iterable[FileRecord]) -> VerifiedFiles:
        """Compare staged files, and remove those that are not good."""
        verified = VerifiedFiles([], [], [])
        for file in files:
            path = staging.staged_path(file)
            try:
                label, mismatch = await self.check_file(path, file, await self.expected(file))
            except DownloaderError as error:
                if error.code not in _GONE:
                    raise
                log.warning("%s is not kept: %s", file.name, error)
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
        """Tell what does not fit of a file that is in memory."""
        given = _compared_with(file, expected)
        mismatches = check_blocks([body], file.size, given, file.sha256)
        return mismatches[0] if mismatches else None

    def read(self, path: Path, file: FileRecord, expected: Expected | None) -> Mismatch | None:
        """Read a file, and tell what does not fit. Blocks on the disk and raises OSError."""
        given = _compared_with(file, expected)
        if not given and not file.sha256:
            return None
        mismatches = check_file(path, given, file.sha256)
        return mismatches[0] if mismatches else None

    async def _ask(self, file: FileRecord) -> Expected | None:
        try:
            expected = await self._source.checksum(file.object)
        except DownloaderError as error:
            if error.code is not ErrorCode.SOURCE_CHANGED or not self._job.relisted:
                raise
            own = msgspec.structs.replace(file.object, validator=await self.own_validator(file))
            expected = await self._source.checksum(own)
        return expected if expected and expected.layout(file.size) else None


def _compared_with(file: FileRecord, expected: Expected | None) -> list[Expected]:
    """Return what a file is compared with beside its SHA-256: nothing where that was given."""
    return [expected] if expected and not file.sha256 else []


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
    advice = "compare the object with its origin, then resume"
    if mismatch.algorithm == "MD5":
        advice = (
            "either the object is damaged, or the store's ETag is no MD5: then give the sha256 of"
            " the file, or set verify to false"
        )
    return DownloaderError(
        ErrorCode.CHECKSUM_MISMATCH,
        f"{job.source.uri_of(file.name)} arrived twice with a wrong checksum: {mismatch}; nothing"
        f" of it is kept; {advice}",
        algorithm=mismatch.algorithm,
        wanted=mismatch.wanted,
        got=mismatch.got,
    )
