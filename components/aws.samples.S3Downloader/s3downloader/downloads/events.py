"""The events that tell what became of a download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..contract import responses
from ..contract.responses import Event
from ..core.records import Download

__all__ = ["Announcement", "cancelled", "completed", "failed", "model_added", "paused", "resumed"]

Announcement = Callable[[Download, str, float], Event]
"""Makes the event of a download, caused by a command's id, at a time."""


def started(download: Download, command_id: str, at: float) -> Event:
    """The first byte is about to move."""
    return responses.DownloadStarted(**_common(download, command_id, at))


def paused(download: Download, command_id: str, at: float) -> Event:
    """The traffic has stopped."""
    return responses.DownloadPaused(**_common(download, command_id, at))


def resumed(download: Download, command_id: str, at: float) -> Event:
    """The download goes on."""
    return responses.DownloadResumed(**_common(download, command_id, at))


def cancelled(download: Download, command_id: str, at: float) -> Event:
    """The download is given up."""
    return responses.DownloadCancelled(**_common(download, command_id, at))


def completed(download: Download, command_id: str, at: float) -> Event:
    """Every file is whole, verified, and in its place."""
    return responses.DownloadCompleted(
        **_common(download, command_id, at),
        bytes=download.bytes_total,
        files=download.files_total,
        seconds=round(download.seconds, 3),
        bytes_per_second=round(download.bytes_total / max(download.seconds, 0.001)),
        checksums_verified=download.checksums_verified,
    )


def failed(download: Download, command_id: str, at: float) -> Event:
    """The download stopped and does not go on by itself."""
    assert download.failure is not None
    return responses.DownloadError(
        **_common(download, command_id, at),
        error_code=download.failure.code,
        error=download.failure.message,
    )


def model_added(model: dict[str, Any]) -> Announcement:
    """The model of a download is in the registry."""

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
