"""Checks whether a download may start or continue, also beside the other downloads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ...contract import commands
from ...contract.checks import check_limit
from ...core.error_mapping import acceleration_unsupported
from ...core.errors import DownloaderError, ErrorCode, from_os_error
from ...core.records import ACTIVE, FINISHED, Download, Options, State
from ...core.settings import Settings
from ..active_download import ActiveDownload
from ..publishing.replace import check_replaceable
from ..state_machine import invalid_state
from . import disk_space, path_safety

__all__ = ["admit", "check_free", "check_space", "check_target", "model_id", "with_limit"]

_OCCUPYING = ACTIVE | {State.PAUSED}


def admit(command: commands.Download, settings: Settings, now: float) -> Download:
    """Return the record of the download that `command` requests.

    Raises INVALID_FIELD, SOURCE_NOT_ALLOWED, DESTINATION_NOT_ALLOWED or DESTINATION_NOT_WRITABLE.
    """
    if command.options.s3_transfer_acceleration and settings.endpoint_url:
        raise acceleration_unsupported(settings.endpoint_url)
    path_safety.check_source(command.source, settings.allowed_sources)
    roots = settings.destination_roots
    destination = path_safety.resolve_destination(
        command.destination or settings.download_dir, roots
    )
    download = Download(
        download_id=command.download_id,
        command_id=command.command_id,
        source=command.source,
        layout=command.layout,
        origin="command",
        destination=str(destination),
        staging="",
        options=command.options,
        model_meta=command.model_meta,
        sha256=command.sha256,
        created_at=now,
        updated_at=now,
    )
    beside = destination
    if download.replaces:
        check_replaceable(Path(download.target), [*roots, Path(settings.state_dir)])
        beside = Path(download.target).parent
    try:
        staging = path_safety.staging_folder(beside, roots, download.download_id)
    except OSError as error:
        raise from_os_error(error) from error
    return msgspec.structs.replace(download, staging=str(staging))


def with_limit(download: Download, limit: int | None) -> Options:
    """Return the options of `download` with that limit, in bytes per second, None for none.

    Raises INVALID_FIELD if its engine ignores limits, INVALID_STATE if it has ended.
    """
    if download.state in FINISHED:
        raise invalid_state(download, "; only an unfinished download can get a limit")
    check_limit(download.options.engine, limit)
    return msgspec.structs.replace(download.options, max_bandwidth=limit)


def model_id(download: Download) -> str:
    """Return the id of the download's model.

    It is the `model_id` of its metadata, else the last part of the source's path, else the bucket.
    """
    meta = download.model_meta or {}
    last = download.source.path.rstrip("/").rpartition("/")[2]
    return str(meta.get("model_id") or last or download.source.authority)


def check_target(download: Download, downloads: Iterable[ActiveDownload]) -> None:
    """Raise DESTINATION_BUSY if another download writes, or will write, to the same target."""
    others = (active for active in downloads if active.download.download_id != download.download_id)
    check_free(download.target, others)


def check_free(target: str, downloads: Iterable[ActiveDownload]) -> None:
    """Raise DESTINATION_BUSY if one of `downloads` writes, or will write, to `target`."""
    for active in downloads:
        if path_safety.overlap(target, active.target) and _writes(active):
            other = active.download
            raise DownloaderError(
                ErrorCode.DESTINATION_BUSY,
                f"the download {other.download_id!r} is {other.state.value} and writes to"
                f" {active.target}; wait for it, cancel it, or choose another destination",
                download_id=other.download_id,
            )


def _writes(active: ActiveDownload) -> bool:
    """Tell whether a download writes to its target, or will do so without another check."""
    download = active.download
    if active.lock.locked() and (download.exchange or download.state is State.FAILED):
        return True  # a command is resuming it, or undoing its exchange
    return download.state not in FINISHED and (
        download.state in _OCCUPYING or download.publish_began
    )


def check_space(active: ActiveDownload, downloads: Iterable[ActiveDownload], reserve: int) -> None:
    """Promise `active` the disk space that it still needs.

    Raises INSUFFICIENT_SPACE if it does not fit in addition to `reserve`, in bytes, and to what is
    promised to others on the same file system.
    """
    active.space_reserved = False
    destination = Path(active.download.destination)
    device = disk_space.device(destination)
    promised = sum(
        _unwritten(other)
        for other in downloads
        if other.space_reserved
        and _missing(other)
        and disk_space.device(Path(other.download.destination)) == device
    )
    needed = _unwritten(active)
    disk_space.check_space(destination, needed=needed, promised=promised, reserve=reserve)
    active.space_reserved = True


def _missing(active: ActiveDownload) -> int:
    """Return the bytes of planned files that an active download has not finished yet."""
    download = active.download
    if download.state not in ACTIVE or download.state is State.PUBLISHING:
        return 0
    return max(0, download.bytes_total - active.meter.bytes_finished)


def _unwritten(active: ActiveDownload) -> int:
    """Return the bytes of disk space that a download still needs.

    Unfinished files have their complete space already, also for bytes that have not arrived.
    """
    return max(0, _missing(active) - disk_space.allocated(Path(active.download.staging)))
