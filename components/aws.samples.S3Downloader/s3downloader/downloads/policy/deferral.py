"""Decides whether an update of the device's components waits for a running download."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ...core.clock import Clock
from ...core.records import State
from ...engines.base import resumes_inside_files
from ..active_download import ActiveDownload

__all__ = ["Deferral"]

log = logging.getLogger(__name__)

_ASK_AGAIN = 10.0
"""Maximum seconds until the nucleus asks again, so that an update starts soon after a download."""


class Deferral:
    """Defers updates while a running download would lose bytes by a restart.

    Only downloads with s5cmd do: it starts unfinished files again. The engine ranged continues
    inside a file.
    """

    def __init__(
        self,
        downloads: Callable[[], Iterable[ActiveDownload]],
        longest: Callable[[], float],
        clock: Clock,
    ) -> None:
        """`longest` returns for how many seconds one deployment may be deferred. It may change."""
        self._downloads = downloads
        self._longest = longest
        self._clock = clock
        self._deployment = ""
        self._asked_at = 0.0

    def seconds(self, deployment_id: str) -> float:
        """Return the seconds after which the nucleus must ask again. 0 lets the update start."""
        now = self._clock.monotonic()
        if deployment_id != self._deployment:
            self._deployment, self._asked_at = deployment_id, now
        left = self._asked_at + self._longest() - now
        blocking = next(filter(_would_lose_bytes, self._downloads()), None)
        if blocking is None or left <= 0:
            return 0.0
        log.info(
            "an update of components waits for the download %s, for at most %.0f s more",
            blocking.download.download_id,
            left,
        )
        return min(left, _ASK_AGAIN)


def _would_lose_bytes(active: ActiveDownload) -> bool:
    return (
        active.download.state is State.DOWNLOADING
        and active.share is not None
        and not resumes_inside_files(active.download.options, active.share)
    )
