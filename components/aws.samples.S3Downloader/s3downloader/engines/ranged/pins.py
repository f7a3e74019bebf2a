"""The validator that the requests for a file are pinned to: that of its listing, or its object's.

A store may list other validators than its objects have, for good: another ETag, or none. Then the
object's own one counts, so that all bytes of a file are of one state of it; whether the source has
changed is still told by its listing, which is compared with the listing before.
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
    """The validators of the files of one fetch."""

    def __init__(
        self,
        job: FetchJob,
        verifier: Verifier,
        features: ServerFeatures,
        retries: Callable[[FileRecord], Retries],
        own: Mapping[int, str],
    ) -> None:
        """`own` are those, by the files' numbers, that are known to differ from the listing.

        `retries` makes what decides on further requests for a file.
        """
        self._job = job
        self._verifier = verifier
        self._features = features
        self._retries = retries
        self._own = dict(own)

    async def of(self, file: FileRecord) -> FileRecord:
        """Return a file with the validator of its object, empty where neither tells one."""
        if not file.validator and file.number not in self._own:
            self._own[file.number] = await self._ask(file)
        own = self._own.get(file.number)
        return file if own is None else msgspec.structs.replace(file, validator=own)

    async def fallback(self, file: FileRecord, refused: FileRecord) -> FileRecord | None:
        """Return the file by its object's own validator, where another one was refused.

        None where the object has changed, for all that is known: the source is to be listed again.
        """
        root = self._job.source.root
        may_differ = self._job.relisted or root in self._features.unlike_listed
        if refused is not file or not may_differ:
            return None
        own = await self._ask(file)
        if own == file.validator:  # to the letter: a weak one is refused for a strong one
            return None
        log.info("%s: %s is fetched as %r, not as listed", self._job.download_id, file.name, own)
        self._features.unlike_listed.add(root)
        self._own[file.number] = own
        return msgspec.structs.replace(file, validator=own)

    def confirm(self, file: FileRecord, fetched: FileRecord) -> None:
        """Note that a file has been fetched: by the listed validator, its source's are the own."""
        if fetched is file:
            self._features.unlike_listed.discard(self._job.source.root)

    async def check_unchanged(self, file: FileRecord, fetched: FileRecord) -> None:
        """See that an object whose listing tells no validator is still the one that was fetched.

        Raises SOURCE_CHANGED.
        """
        if file.validator:
            return
        own = await self._ask(file)
        if validators.same(own, fetched.validator) or not (own or fetched.validator):
            return
        raise DownloaderError(
            ErrorCode.SOURCE_CHANGED,
            f"{self._job.source.uri_of(file.name)} was replaced while it was fetched; what is there"
            " of it is given up",
        )

    async def _ask(self, file: FileRecord) -> str:
        return await self._retries(file).until_answered(lambda: self._verifier.own_validator(file))
