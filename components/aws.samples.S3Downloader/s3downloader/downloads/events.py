"""Creates the events of downloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contract import responses
from ..contract.responses import Event
from ..core.records import Download

__all__ = ["Announcement", "cancelled", "completed", "failed", "model_added", "paused", "resumed"]

Announcement = Callable[[Download, str, float], Event]
"""Returns the event of a download, from its record, the id of the command that caused it, and the
time in seconds since the epoch."""


def started(download: Download, command_id: str, at: float) -> Event:
    """Return the event that fetching starts for the first time."""
    return responses.DownloadStarted(**_common(download, command_id, at))


def paused(download: Download, command_id: str, at: float) -> Event:
    """Return the event that the download is paused, and transfers nothing."""
    return responses.DownloadPaused(**_common(download, command_id, at))


def resumed(download: Download, command_id: str, at: float) -> Event:
    """Return the event that the download is queued again by a command."""
    return responses.DownloadResumed(**_common(download, command_id, at))


def cancelled(download: Download, command_id: str, at: float) -> Event:
    """Return the event that the download is cancelled."""
    return responses.DownloadCancelled(**_common(download, command_id, at))


def completed(download: Download, command_id: str, at: float) -> Event:
    """Return the event that every file is complete, verified and published."""
    return responses.DownloadCompleted(
        **_common(download, command_id, at),
        bytes=download.bytes_total,
        files=download.files_total,
        seconds=round(download.seconds, 3),
        bytes_per_second=round(download.bytes_total / max(download.seconds, 0.001)),
        checksums_verified=download.checksums_verified,
    )


def failed(download: Download, command_id: str, at: float) -> Event:
    """Return the event that the download failed, and does not continue by itself."""
    assert download.failure is not None
    return responses.DownloadError(
        **_common(download, command_id, at),
        error_code=download.failure.code,
        error=download.failure.message,
    )


def model_added(model: dict[str, Any]) -> Announcement:
    """Return the function that makes the event that the registry has a download's model."""

    def announce(download: Download, command_id: str, at: float) -> Event:
        return responses.ModelAdded(
            **_common(download, command_id, at),
            model_id=model["model_id"],
            local_path=model["local_path"],
        )

    return announce


def _common(download: Download, command_id: str, at: float) -> dict[str, Any]:
    return {
        "download_id": download.download_id,
        "command_id": command_id,
        "status": download.state,
        "timestamp": at,
    }
