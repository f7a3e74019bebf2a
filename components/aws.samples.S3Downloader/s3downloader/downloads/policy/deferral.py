"""Whether an update of the device's components shall wait for what is under way."""

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
"""Seconds after which the nucleus asks again, so that it learns soon when nothing is in its way."""


class Deferral:
    """Asks for time while a download is under way that an update would throw back.

    Nearly none is: ranges go on inside a file after a restart. What s5cmd has of a file is lost.
    """

    def __init__(
        self,
        downloads: Callable[[], Iterable[ActiveDownload]],
        longest: Callable[[], float],
        clock: Clock,
    ) -> None:
        """`longest` returns how many seconds one deployment may be kept waiting; it may change."""
        self._downloads = downloads
        self._longest = longest
        self._clock = clock
        self._deployment = ""
        self._asked_at = 0.0

    def seconds(self, deployment_id: str) -> float:
        """Return after how many seconds the nucleus shall ask again; 0 lets the update begin."""
        now = self._clock.monotonic()
        if deployment_id != self._deployment:
            self._deployment, self._asked_at = deployment_id, now
        left = self._asked_at + self._longest() - now
        hindrance = next(filter(_would_fall_back, self._downloads()), None)
        if hindrance is None or left <= 0:
            return 0.0
        log.info(
            "an update of components waits for the download %s, %.0f s more at most",
            hindrance.download.download_id,
            left,
        )
        return min(left, _ASK_AGAIN)


def _would_fall_back(active: ActiveDownload) -> bool:
    return (
        active.download.state is State.DOWNLOADING
        and active.share is not None
        and not resumes_inside_files(active.download.options, active.share)
    )
