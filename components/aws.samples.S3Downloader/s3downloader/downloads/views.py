"""Returns the parts of messages that describe downloads, files, objects and disks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import UNSET

from ..contract.responses import (
    DetailsView,
    DiskUsage,
    DownloadView,
    FileView,
    LimitView,
    ObjectView,
)
from ..core.objects import ObjectRef
from ..core.records import Download, FileRecord, State
from .active_download import ActiveDownload
from .planning import disk_space

__all__ = [
    "details_view",
    "disk_usage",
    "download_view",
    "file_view",
    "limit_view",
    "object_view",
]


def download_view(active: ActiveDownload) -> DownloadView:
    """Return what the response to `list` and the status contain for a download."""
    return DownloadView(**_fields(active))


def details_view(active: ActiveDownload) -> DetailsView:
    """Return what `details` shows of a download, except its files."""
    download = active.download
    return DetailsView(
        **_fields(active),
        created_at=download.created_at,
        updated_at=download.updated_at,
        seconds=download.seconds,
        options=download.options,
        model_meta=UNSET if download.model_meta is None else download.model_meta,
    )


def file_view(file: FileRecord, state: State) -> FileView:
    """Return what `details` shows of a file of a download in `state`."""
    # When a fetch has ended, so has its wait for another attempt.
    next_attempt = file.next_attempt if state is State.DOWNLOADING else None
    return FileView(
        number=file.number,
        path=file.path,
        key=file.name,
        size=file.size,
        etag=file.validator,
        done=file.done,
        modified=UNSET if file.modified is None else file.modified,
        checksum=file.checksum or UNSET,
        attempts=file.attempts or UNSET,
        error_code=file.error_code or UNSET,
        error=file.error or UNSET,
        next_attempt=UNSET if next_attempt is None else next_attempt,
    )


def object_view(found: ObjectRef) -> ObjectView:
    """Return what `list` shows of an object."""
    return ObjectView(
        key=found.name,
        size=found.size,
        etag=found.validator,
        modified=UNSET if found.modified is None else found.modified,
    )


def limit_view(active: ActiveDownload, record: Download) -> LimitView:
    """Return the limit of a download, which `record` has, and its present rate."""
    return LimitView(
        download_id=record.download_id,
        status=record.state,
        max_bandwidth=record.options.max_bandwidth or 0,
        bytes_per_second=_rate(active),
    )


def disk_usage(path: str) -> DiskUsage:
    """Return the space of the file system that `path` is on."""
    space = disk_space.space(Path(path))
    usable = space.used + space.free
    percent = round(100 * space.used / usable, 1) if usable else 0.0
    return DiskUsage(
        path=path, total=space.total, used=space.used, free=space.free, percent_used=percent
    )


def _fields(active: ActiveDownload) -> dict[str, Any]:
    download = active.download
    total = download.bytes_total
    done = min(active.meter.bytes_done, total)
    rate = _rate(active)
    return {
        "download_id": download.download_id,
        "bucket": download.source.authority,
        "key": download.source.path,
        "status": download.state,
        "progress": _progress(done, total, complete=download.state is State.COMPLETED),
        "destination": download.destination,
        "bytes_done": done,
        "bytes_total": total,
        "files_done": download.files_done,
        "files_total": download.files_total,
        "bytes_per_second": rate,
        "eta_seconds": round((total - done) / rate) if rate else None,
        "error_code": download.failure.code if download.failure else UNSET,
        "error": download.failure.message if download.failure else UNSET,
    }


def _rate(active: ActiveDownload) -> int:
    downloading = active.download.state is State.DOWNLOADING
    return round(active.meter.bytes_per_second()) if downloading else 0


def _progress(done: int, total: int, *, complete: bool) -> float:
    """Return the percentage, rounded down to a tenth, so that 100 means everything."""
    if complete:
        return 100.0
    return int(1_000 * done / total) / 10 if total else 0.0
