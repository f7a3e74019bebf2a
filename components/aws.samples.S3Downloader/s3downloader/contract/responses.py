"""Defines every message that the device sends: responses, refusals, events, status and notices.

Times are seconds since the epoch and durations are seconds, both with a fraction. Sizes are bytes.
A field that does not apply is left out. `truncated` is true if something was left out or shortened
so that the message fits into MaxPayloadBytes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ..core.errors import DownloaderError, ErrorCode
from ..core.records import Options, State
from .names import snake_case

__all__ = [
    "EVENTS",
    "RESPONSES",
    "STATUS",
    "DetailsResponse",
    "DetailsView",
    "DiskSpaceResponse",
    "DiskUsage",
    "DownloadCancelled",
    "DownloadCompleted",
    "DownloadError",
    "DownloadPaused",
    "DownloadResponse",
    "DownloadResumed",
    "DownloadStarted",
    "DownloadView",
    "DownloadsResponse",
    "Event",
    "FileView",
    "LimitView",
    "LimitsResponse",
    "Message",
    "ModelAdded",
    "ModelResponse",
    "ModelsResponse",
    "Notice",
    "ObjectView",
    "ObjectsResponse",
    "Refusal",
    "Response",
    "Status",
    "StatusResponse",
    "refusal",
]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The field of all messages from the device."""

    truncated: Literal[True] | UnsetType = UNSET


# --- Parts of messages ---------------------------------------------------------------------------


class DownloadView(msgspec.Struct, frozen=True, kw_only=True):
    """A download in a list or a status.

    `progress` is the percentage of the bytes that have arrived, 0 to 100. `bytes_per_second` is the
    present rate. `eta_seconds` is the remaining time at that rate, null if it is unknown. `error`
    and `error_code` say why a download failed or waits.
    """

    download_id: str
    bucket: str
    key: str
    status: State
    progress: float
    destination: str
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    bytes_per_second: int
    eta_seconds: int | None
    error_code: ErrorCode | UnsetType = UNSET
    error: str | UnsetType = UNSET


class DetailsView(DownloadView, frozen=True, kw_only=True):
    """A download with its options, times and model_meta.

    `seconds` is the time in which it worked, without pauses and waits.
    """

    created_at: float
    updated_at: float
    seconds: float
    options: Options
    model_meta: dict[str, Any] | UnsetType = UNSET


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a download: the object `key` of `size` bytes.

    `path` is the file's path relative to the destination, `modified` the time of the object's last
    change. `done` is true when the file is complete and verified. `checksum` names the checksum
    that was compared. `attempts` is how many attempts at the file have failed, the last one with
    `error_code` and `error`. `next_attempt` is when the engine tries again. Times are seconds since
    the epoch.
    """

    number: int
    path: str
    key: str
    size: int
    etag: str
    done: bool
    modified: float | UnsetType = UNSET
    checksum: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    error_code: ErrorCode | UnsetType = UNSET
    error: str | UnsetType = UNSET
    next_attempt: float | UnsetType = UNSET


class ObjectView(msgspec.Struct, frozen=True, kw_only=True):
    """An object in a bucket, `size` in bytes, `modified` in seconds since the epoch."""

    key: str
    size: int
    etag: str
    modified: float | UnsetType = UNSET


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The space on the file system of `path`, in bytes. `percent_used` is 0 to 100."""

    path: str
    total: int
    used: int
    free: int
    percent_used: float


class LimitView(msgspec.Struct, frozen=True, kw_only=True):
    """A download's own limit, 0 for none, and its present rate, in bytes per second."""

    download_id: str
    status: State
    max_bandwidth: int
    bytes_per_second: int


# --- Responses: one for each command -------------------------------------------------------------


class Response(Message, frozen=True, kw_only=True):
    """The response to a command that was accepted."""

    command_id: str
    command: str
    success: Literal[True] = True
    message: str


class DownloadResponse(Response, frozen=True, kw_only=True):
    """The response to `download`, `pause`, `resume` and `cancel`: the state after the command."""

    download_id: str
    status: State


class DownloadsResponse(Response, frozen=True, kw_only=True):
    """The response to `list` of downloads. The oldest come first."""

    downloads: list[DownloadView]
    next_token: str | UnsetType = UNSET


class ObjectsResponse(Response, frozen=True, kw_only=True):
    """The response to `list` of `s3`: the objects whose keys begin with `key`, in key order."""

    bucket: str
    key: str
    objects: list[ObjectView]
    next_token: str | UnsetType = UNSET


class ModelsResponse(Response, frozen=True, kw_only=True):
    """The response to `model_list` and `list` of models. They are sorted by `model_id`."""

    models: list[dict[str, Any]]
    next_token: str | UnsetType = UNSET


class DetailsResponse(Response, frozen=True, kw_only=True):
    """The response to `details`. `files` are sorted by their numbers."""

    download_id: str
    status: State
    details: DetailsView
    files: list[FileView]
    next_token: str | UnsetType = UNSET


class StatusResponse(Response, frozen=True, kw_only=True):
    """The response to `status`, with the fields of Status."""

    device_id: str
    timestamp: float
    active_downloads: int
    downloads: list[DownloadView]
    disk_space: DiskUsage


class DiskSpaceResponse(Response, frozen=True, kw_only=True):
    """The response to `disk_space`."""

    disk_space: DiskUsage


class LimitsResponse(Response, frozen=True, kw_only=True):
    """The response to `limits`: the limits in force, in bytes per second, 0 for none.

    `max_bandwidth` is the device's limit. `configured_max_bandwidth` is the parameter MaxBandwidth,
    which a command can override. `downloads` are the active ones, or the one with the command's
    `download_id`.
    """

    max_bandwidth: int
    configured_max_bandwidth: int
    downloads: list[LimitView]
    next_token: str | UnsetType = UNSET


class ModelResponse(Response, frozen=True, kw_only=True):
    """The response to `model_get`, `model_add`, `model_rollback` and `model_delete`.

    `model` is the present registry entry. After `model_delete` it is left out.
    """

    model_id: str
    model: dict[str, Any] | UnsetType = UNSET


class Refusal(Message, frozen=True, kw_only=True):
    """The response to a command that was not carried out.

    `error` says what is wrong and what to do. `command_id` and `command` are those of the command,
    if they could be read.
    """

    command_id: str | UnsetType = UNSET
    command: str | UnsetType = UNSET
    success: Literal[False] = False
    error_code: ErrorCode
    error: str
    error_details: dict[str, Any]


def refusal(error: DownloaderError, command_id: str | None, command: str | None) -> Refusal:
    """Return the refusal of a command because of `error`."""
    return Refusal(
        command_id=command_id or UNSET,
        command=command or UNSET,
        error_code=error.code,
        error=error.message,
        error_details=error.details,
    )


# --- Events: the effects of a command, on the topic of the responses -----------------------------


class Event(Message, frozen=True, kw_only=True, tag_field="event", tag=snake_case):
    """The fields of all events.

    `command_id` is that of the command which caused the event: `download`, or a later command.
    `status` is the state of the download at the time of the event.
    """

    download_id: str
    command_id: str
    success: bool = True
    status: State
    timestamp: float


class DownloadStarted(Event, frozen=True, kw_only=True):
    """The download has started to fetch files."""


class DownloadPaused(Event, frozen=True, kw_only=True):
    """The download is paused, after a `pause`."""

    status: State = State.PAUSED


class DownloadResumed(Event, frozen=True, kw_only=True):
    """The download continues, after a `resume`."""


class DownloadCancelled(Event, frozen=True, kw_only=True):
    """The download is cancelled, after a `cancel`, and its staged files are removed."""

    status: State = State.CANCELLED


class DownloadCompleted(Event, frozen=True, kw_only=True):
    """The download is complete: all files are verified and published.

    `seconds` is the time in which it worked, and `bytes_per_second` the mean rate in that time.
    `checksums_verified` is the number of files of which a checksum was compared.
    """

    status: State = State.COMPLETED
    progress: Literal[100] = 100
    bytes: int
    files: int
    seconds: float
    bytes_per_second: int
    checksums_verified: int


class DownloadError(Event, frozen=True, kw_only=True):
    """The download has failed. `resume` continues it."""

    success: bool = False
    status: State = State.FAILED
    error_code: ErrorCode
    error: str


class ModelAdded(Event, frozen=True, kw_only=True):
    """The model of a completed download is registered.

    `local_path` is the path of the file, or for a prefix of the directory.
    """

    status: State = State.COMPLETED
    model_id: str
    local_path: str


# --- Messages on the topic of the status ---------------------------------------------------------


class Status(Message, frozen=True, kw_only=True):
    """The present status of the device, sent periodically and after changes of state.

    `active_downloads` is the number of downloads that work, wait or are queued. `downloads` has
    these, the paused and the failed ones.
    """

    device_id: str
    timestamp: float
    active_downloads: int
    downloads: list[DownloadView]
    disk_space: DiskUsage


class Notice(Message, frozen=True, kw_only=True):
    """A warning, or the error of a download with its details."""

    device_id: str
    timestamp: float
    level: Literal["warning", "error"]
    message: str
    download_id: str | UnsetType = UNSET
    error_code: ErrorCode | UnsetType = UNSET
    error_details: dict[str, Any] | UnsetType = UNSET


RESPONSES = (
    DownloadResponse,
    DownloadsResponse,
    ObjectsResponse,
    ModelsResponse,
    DetailsResponse,
    StatusResponse,
    DiskSpaceResponse,
    LimitsResponse,
    ModelResponse,
    Refusal,
)

EVENTS = (
    DownloadStarted,
    DownloadPaused,
    DownloadResumed,
    DownloadCancelled,
    DownloadCompleted,
    DownloadError,
    ModelAdded,
)

STATUS = (Status, Notice)
