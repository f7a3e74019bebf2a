"""Chooses the validator to which the requests for a file are pinned.

Usually that is the validator in the listing. But some object stores permanently list other
validators than their objects have, or none. Then requests are pinned to the object's own validator,
so that all bytes of a file are from one version of the object. Changes of the source are still
noticed, because listings are compared with each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from ...core import validators
from ...core.errors import DownloaderError, ErrorCode
from ...core.records import FileRecord
from ..base import FetchJob
from ..verification import Verifier
from .concurrency import Retries
from .server_features import ServerFeatures

__all__ = ["Pins"]

log = logging.getLogger(__name__)


class Pins:
    """The validators of the files of one fetch. Methods with requests raise DownloaderError."""

    def __init__(
        self,
        job: FetchJob,
        verifier: Verifier,
        features: ServerFeatures,
        retries: Callable[[FileRecord], Retries],
        own: Mapping[int, str],
    ) -> None:
        """`own` has the objects' own validators that differ from the listing, by file number.

        `retries` returns the Retries for requests of a file.
        """
        self._job = job
        self._verifier = verifier
        self._features = features
        self._retries = retries
        self._own = dict(own)

    async def of(self, file: FileRecord) -> FileRecord:
        """Return a file with the validator to which its requests are pinned.

        It is empty if neither the listing nor the object has one.
        """
        if not file.validator and file.number not in self._own:
            self._own[file.number] = await self._request_own(file)
        own = self._own.get(file.number)
        return file if own is None else msgspec.structs.replace(file, validator=own)

    async def fallback(self, file: FileRecord, refused: FileRecord) -> FileRecord | None:
        """Return the file with its object's own validator, after the listed one was refused.

        None if the object may have changed. Then the source must be listed again.
        """
        root = self._job.source.root
        may_differ = self._job.relisted or root in self._features.unlike_listed
        if refused is not file or not may_differ:
            return None
        own = await self._request_own(file)
        # Compared exactly: an object with a weak ETag refuses the strong one of its listing.
        if own == file.validator:
            return None
        name = f"{self._job.download_id}: {file.name}"
        log.info("%s is fetched with its own validator %r", name, own)
        self._features.unlike_listed.add(root)
        self._own[file.number] = own
        return msgspec.structs.replace(file, validator=own)

    def confirm(self, file: FileRecord, fetched: FileRecord) -> None:
        """Record that a file was fetched, and with which validator.

        If it was the listed one, objects of this source have the validators of their listing.
        """
        if fetched is file:
            self._features.unlike_listed.discard(self._job.source.root)

    async def check_unchanged(self, file: FileRecord, fetched: FileRecord) -> None:
        """Check that an object without a listed validator is still the one that was fetched.

        Raises SOURCE_CHANGED if it is not.
        """
        if file.validator:
            return
        own = await self._request_own(file)
        if validators.same(own, fetched.validator) or not (own or fetched.validator):
            return
        raise DownloaderError(
            ErrorCode.SOURCE_CHANGED,
            f"{self._job.source.uri_of(file.name)} was replaced while it was fetched; what has"
            " arrived of it is deleted",
        )

    async def _request_own(self, file: FileRecord) -> str:
        return await self._retries(file).until_success(lambda: self._verifier.own_validator(file))
