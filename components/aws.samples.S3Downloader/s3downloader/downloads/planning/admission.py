"""Which downloads may begin, and which may go on, beside the others that there are."""

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

__all__ = ["admit", "check_free", "check_space", "check_target", "limited", "model_id"]

_OCCUPYING = ACTIVE | {State.PAUSED}


def admit(command: commands.Download, settings: Settings, now: float) -> Download:
    """Return the download that `command` asks for.

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


def limited(download: Download, limit: int | None) -> Options:
    """Return the options of `download` with its own limit, in bytes per second, None for none.

    Raises INVALID_FIELD where its engine heeds none, INVALID_STATE where it is over.
    """
    if download.state in FINISHED:
        raise invalid_state(download, "; only one that is not over can be given a limit")
    check_limit(download.options.engine, limit)
    return msgspec.structs.replace(download.options, max_bandwidth=limit)


def model_id(download: Download) -> str:
    """Return the id of the download's model: its own, else the last part of the source's path."""
    meta = download.model_meta or {}
    last = download.source.path.rstrip("/").rpartition("/")[2]
    return str(meta.get("model_id") or last or download.source.authority)


def check_target(download: Download, downloads: Iterable[ActiveDownload]) -> None:
    """Raise DESTINATION_BUSY where another download is to write to the same target."""
    others = (active for active in downloads if active.download.download_id != download.download_id)
    check_free(download.target, others)


def check_free(target: str, downloads: Iterable[ActiveDownload]) -> None:
    """Raise DESTINATION_BUSY where one of `downloads` is to write to `target`."""
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
    """Tell whether a download writes to its target, or will without another check."""
    download = active.download
    if active.lock.locked() and (download.exchange or download.state is State.FAILED):
        return True  # it is being resumed, or undone
    return download.state not in FINISHED and (
        download.state in _OCCUPYING or download.publish_began
    )


def check_space(active: ActiveDownload, downloads: Iterable[ActiveDownload], reserve: int) -> None:
    """Promise `active` the space that it still needs, beside what is promised to others.

    Raises INSUFFICIENT_SPACE where that is too much.
    """
    active.has_room = False
    destination = Path(active.download.destination)
    device = disk_space.device(destination)
    promised = sum(
        _unwritten(other)
        for other in downloads
        if other.has_room
        and _missing(other)
        and disk_space.device(Path(other.download.destination)) == device
    )
    needed = _unwritten(active)
    disk_space.check_space(destination, needed=needed, promised=promised, reserve=reserve)
    active.has_room = True


def _missing(active: ActiveDownload) -> int:
    """Return the bytes that an active download has still to bring, as far as it is planned."""
    download = active.download
    if download.state not in ACTIVE or download.state is State.PUBLISHING:
        return 0
    return max(0, download.bytes_total - active.meter.bytes_settled)


def _unwritten(active: ActiveDownload) -> int:
    """Return the bytes that a download has still to find room for.

    Files on their way have theirs already, also for what has not arrived of them.
    """
    return max(0, _missing(active) - disk_space.allocated(Path(active.download.staging)))
