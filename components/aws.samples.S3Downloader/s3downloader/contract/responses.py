"""Everything that the device sends: responses, refusals, events, status and notices.

Times are seconds since the epoch and durations seconds, both with a fraction; sizes are bytes.
A field that does not apply is left out. `truncated` is true where something was left out or
shortened so that the message fits into MaxPayloadBytes.
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
    """What all messages of the device may have."""

    truncated: Literal[True] | UnsetType = UNSET


# --- Parts of messages ---------------------------------------------------------------------------


class DownloadView(msgspec.Struct, frozen=True, kw_only=True):
    """A download as lists and status show it.

    `progress` is the percentage of bytes that have arrived, 0 to 100. `bytes_per_second` is the
    present rate, and `eta_seconds` the time left at that rate, null where it cannot be told.
    `error` and `error_code` say why a download failed or waits.
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
    """Everything about a download but its files.

    `seconds` is the time spent working, without pauses and waits.
    """

    created_at: float
    updated_at: float
    seconds: float
    options: Options
    model_meta: dict[str, Any] | UnsetType = UNSET


class FileView(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a download: the object `key` of `size` bytes, which is to lie at `path`.

    `path` is relative to the destination. `done` says that it has arrived whole,
    `checksum` by what it was verified.
    """

    number: int
    path: str
    key: str
    size: int
    etag: str
    done: bool
    checksum: str | UnsetType = UNSET


class ObjectView(msgspec.Struct, frozen=True, kw_only=True):
    """An object in a bucket, `size` in bytes."""

    key: str
    size: int
    etag: str


class DiskUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The file system that `path` lies on, in bytes; `percent_used` is 0 to 100."""

    path: str
    total: int
    used: int
    free: int
    percent_used: float


class LimitView(msgspec.Struct, frozen=True, kw_only=True):
    """A download's own limit and its rate now, in bytes per second; 0 for no limit of its own."""

    download_id: str
    status: State
    max_bandwidth: int
    bytes_per_second: int


# --- Responses: one a command --------------------------------------------------------------------


class Response(Message, frozen=True, kw_only=True):
    """The answer to a command that was accepted."""

    command_id: str
    command: str
    success: Literal[True] = True
    message: str


class DownloadResponse(Response, frozen=True, kw_only=True):
    """To `download`, `pause`, `resume` and `cancel`: the state after it."""

    download_id: str
    status: State


class DownloadsResponse(Response, frozen=True, kw_only=True):
    """To `list` of downloads, the oldest first."""

    downloads: list[DownloadView]
    next_token: str | UnsetType = UNSET


class ObjectsResponse(Response, frozen=True, kw_only=True):
    """To `list` of `s3`: the objects whose keys begin with `key`, in the order of their keys."""

    bucket: str
    key: str
    objects: list[ObjectView]
    next_token: str | UnsetType = UNSET


class ModelsResponse(Response, frozen=True, kw_only=True):
    """To `model_list` and `list` of models, in the order of their `model_id`."""

    models: list[dict[str, Any]]
    next_token: str | UnsetType = UNSET


class DetailsResponse(Response, frozen=True, kw_only=True):
    """To `details`; `files` are in the order of their numbers."""

    download_id: str
    status: State
    details: DetailsView
    files: list[FileView]
    next_token: str | UnsetType = UNSET


class StatusResponse(Response, frozen=True, kw_only=True):
    """To `status`: what Status says."""

    device_id: str
    timestamp: float
    active_downloads: int
    downloads: list[DownloadView]
    disk_space: DiskUsage


class DiskSpaceResponse(Response, frozen=True, kw_only=True):
    """To `disk_space`."""

    disk_space: DiskUsage


class LimitsResponse(Response, frozen=True, kw_only=True):
    """To `limits`: what is in force now, in bytes per second, 0 for none.

    `configured_max_bandwidth` is MaxBandwidth, which a command can override. `downloads` are the
    active ones, or the one that was asked for.
    """

    max_bandwidth: int
    configured_max_bandwidth: int
    downloads: list[LimitView]
    next_token: str | UnsetType = UNSET


class ModelResponse(Response, frozen=True, kw_only=True):
    """To `model_delete` the id of the model alone.

    To `model_get`, `model_add` and `model_rollback` the model as it is now.
    """

    model_id: str
    model: dict[str, Any] | UnsetType = UNSET


class Refusal(Message, frozen=True, kw_only=True):
    """The answer to a command that was not carried out.

    `error` says what to do about it. `command_id` and `command` are those of the command, where
    they could be read.
    """

    command_id: str | UnsetType = UNSET
    command: str | UnsetType = UNSET
    success: Literal[False] = False
    error_code: ErrorCode
    error: str
    error_details: dict[str, Any]


def refusal(error: DownloaderError, command_id: str | None, command: str | None) -> Refusal:
    """Return the refusal that answers a command with `error`."""
    return Refusal(
        command_id=command_id or UNSET,
        command=command or UNSET,
        error_code=error.code,
        error=error.message,
        error_details=error.details,
    )


# --- Events: what follows from a command, on the topic of the responses --------------------------


class Event(Message, frozen=True, kw_only=True, tag_field="event", tag=snake_case):
    """What all events have.

    `command_id` is that of the `download` command, or of the later command that brought the event
    about. `status` is the state of the download when it happened.
    """

    download_id: str
    command_id: str
    success: bool = True
    status: State
    timestamp: float


class DownloadStarted(Event, frozen=True, kw_only=True):
    """The first bytes are being fetched."""


class DownloadPaused(Event, frozen=True, kw_only=True):
    """A `pause` has taken effect."""

    status: State = State.PAUSED


class DownloadResumed(Event, frozen=True, kw_only=True):
    """A `resume` has taken effect."""


class DownloadCancelled(Event, frozen=True, kw_only=True):
    """A `cancel` has taken effect, and what had arrived is deleted."""

    status: State = State.CANCELLED


class DownloadCompleted(Event, frozen=True, kw_only=True):
    """Everything has arrived, is verified and lies at its destination.

    `seconds` is the time spent working, and `bytes_per_second` the mean rate over it.
    `checksums_verified` is the number of files whose checksum was compared with the store's.
    """

    status: State = State.COMPLETED
    progress: Literal[100] = 100
    bytes: int
    files: int
    seconds: float
    bytes_per_second: int
    checksums_verified: int


class DownloadError(Event, frozen=True, kw_only=True):
    """The download failed; `resume` takes it up again from what it has."""

    success: bool = False
    status: State = State.FAILED
    error_code: ErrorCode
    error: str


class ModelAdded(Event, frozen=True, kw_only=True):
    """The model of a completed download is registered.

    `local_path` is its file, or the directory for a prefix.
    """

    status: State = State.COMPLETED
    model_id: str
    local_path: str


# --- On the topic of the status ------------------------------------------------------------------


class Status(Message, frozen=True, kw_only=True):
    """The device now, sent periodically and at once on a change of state.

    `active_downloads` counts the downloads that the device works on or will by itself;
    `downloads` shows these, the paused and the failed ones.
    """

    device_id: str
    timestamp: float
    active_downloads: int
    downloads: list[DownloadView]
    disk_space: DiskUsage


class Notice(Message, frozen=True, kw_only=True):
    """A warning or a detailed error, beside the periodic status."""

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
