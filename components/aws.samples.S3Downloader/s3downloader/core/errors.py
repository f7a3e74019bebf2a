"""The errors of the downloader. Each has a code, which does not change between versions."""

from __future__ import annotations

import errno
from enum import Enum
from typing import Any

__all__ = [
    "MEANINGS",
    "TRANSIENT",
    "DownloaderError",
    "ErrorCode",
    "Vanished",
    "from_os_error",
    "from_system",
    "resources_exhausted",
]


class ErrorCode(str, Enum):
    """A code for what went wrong: `error_code` in refusals, events and the status."""

    INVALID_JSON = "invalid_json"
    UNKNOWN_COMMAND = "unknown_command"
    UNKNOWN_FIELD = "unknown_field"
    MISSING_FIELD = "missing_field"
    INVALID_FIELD = "invalid_field"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    DOWNLOAD_NOT_FOUND = "download_not_found"
    MODEL_NOT_FOUND = "model_not_found"
    VERSION_NOT_FOUND = "version_not_found"
    INVALID_STATE = "invalid_state"
    RETAINED_COMMAND = "retained_command"
    DUPLICATE_DOWNLOAD = "duplicate_download"
    DESTINATION_BUSY = "destination_busy"
    DESTINATION_NOT_ALLOWED = "destination_not_allowed"
    SOURCE_NOT_ALLOWED = "source_not_allowed"
    UNSUPPORTED_SOURCE = "unsupported_source"
    UNSAFE_KEY = "unsafe_key"
    BUCKET_NOT_FOUND = "bucket_not_found"
    OBJECT_NOT_FOUND = "object_not_found"
    NO_OBJECTS_MATCHED = "no_objects_matched"
    LISTING_INCOMPLETE = "listing_incomplete"
    SIZE_UNKNOWN = "size_unknown"
    ACCESS_DENIED = "access_denied"
    CREDENTIALS_UNAVAILABLE = "credentials_unavailable"
    NETWORK_UNREACHABLE = "network_unreachable"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    INSUFFICIENT_SPACE = "insufficient_space"
    DISK_FULL = "disk_full"
    RESOURCES_EXHAUSTED = "resources_exhausted"
    DESTINATION_NOT_WRITABLE = "destination_not_writable"
    SOURCE_CHANGED = "source_changed"
    INVALID_CHECKSUMS = "invalid_checksums"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    SIZE_MISMATCH = "size_mismatch"
    ENCODING_CHANGED = "encoding_changed"
    REGISTRY_FULL = "registry_full"
    SHADOW_UNAVAILABLE = "shadow_unavailable"
    ENGINE_FAILED = "engine_failed"
    INTERNAL_ERROR = "internal_error"


MEANINGS: dict[ErrorCode, str] = {
    ErrorCode.INVALID_JSON: "The payload is not one JSON object.",
    ErrorCode.UNKNOWN_COMMAND: "No command has that name.",
    ErrorCode.UNKNOWN_FIELD: "The command has no field of that name.",
    ErrorCode.MISSING_FIELD: "A required field is missing.",
    ErrorCode.INVALID_FIELD: "A field has a type or a value that is not allowed.",
    ErrorCode.PAYLOAD_TOO_LARGE: "The message is larger than messaging can carry.",
    ErrorCode.DOWNLOAD_NOT_FOUND: "There is no download with that download_id.",
    ErrorCode.MODEL_NOT_FOUND: "There is no model with that model_id.",
    ErrorCode.VERSION_NOT_FOUND: "No earlier version of the model is retained.",
    ErrorCode.INVALID_STATE: "The download cannot do that in its present state.",
    ErrorCode.RETAINED_COMMAND: "The broker retains a command. It is carried out once.",
    ErrorCode.DUPLICATE_DOWNLOAD: "A download with that download_id exists already.",
    ErrorCode.DESTINATION_BUSY: "Another download or a rollback is writing to that destination.",
    ErrorCode.DESTINATION_NOT_ALLOWED: "The destination is outside AllowedDestinations.",
    ErrorCode.SOURCE_NOT_ALLOWED: "The source matches no pattern of AllowedSources.",
    ErrorCode.UNSUPPORTED_SOURCE: "This version cannot fetch from that kind of source.",
    ErrorCode.UNSAFE_KEY: "A key cannot become a file below the destination.",
    ErrorCode.BUCKET_NOT_FOUND: "The bucket does not exist.",
    ErrorCode.OBJECT_NOT_FOUND: "The object does not exist.",
    ErrorCode.NO_OBJECTS_MATCHED: "No object is below the prefix.",
    ErrorCode.LISTING_INCOMPLETE: "The object store does not list all objects below the prefix.",
    ErrorCode.SIZE_UNKNOWN: "The object store does not say how large an object is.",
    ErrorCode.ACCESS_DENIED: "The object store refused the credentials or the request.",
    ErrorCode.CREDENTIALS_UNAVAILABLE: "No credentials were found, or they have expired.",
    ErrorCode.NETWORK_UNREACHABLE: "The object store cannot be reached, or another server"
    " responds.",
    ErrorCode.TIMEOUT: "The object store did not respond in time, or the download exceeded its"
    " timeout.",
    ErrorCode.STALLED: "No byte arrived for too long.",
    ErrorCode.INSUFFICIENT_SPACE: "The download would not leave MinFreeBytes free.",
    ErrorCode.DISK_FULL: "The disk became full.",
    ErrorCode.RESOURCES_EXHAUSTED: "The device is out of open files, memory or threads.",
    ErrorCode.DESTINATION_NOT_WRITABLE: "The destination cannot be written to.",
    ErrorCode.SOURCE_CHANGED: "The source keeps changing while it is downloaded.",
    ErrorCode.INVALID_CHECKSUMS: "A SHA256SUMS object beside the files cannot be read.",
    ErrorCode.CHECKSUM_MISMATCH: "The bytes do not have the checksum that they should have.",
    ErrorCode.SIZE_MISMATCH: "A file does not have the size of its object.",
    ErrorCode.ENCODING_CHANGED: "A response has another content encoding than its object.",
    ErrorCode.REGISTRY_FULL: "The models shadow would exceed its size limit.",
    ErrorCode.SHADOW_UNAVAILABLE: "The models shadow cannot be reached.",
    ErrorCode.ENGINE_FAILED: "The download engine failed for an unknown reason.",
    ErrorCode.INTERNAL_ERROR: "An error of the downloader itself; its log has the details.",
}
"""The meaning of each code, as in the table of docs/contract.md."""

TRANSIENT = frozenset(
    {
        ErrorCode.NETWORK_UNREACHABLE,
        ErrorCode.TIMEOUT,
        ErrorCode.STALLED,
        ErrorCode.RESOURCES_EXHAUSTED,
    }
)
"""Codes of errors that pass by themselves: a download with one of them waits and tries again."""


class DownloaderError(Exception):
    """An error with a code, a message, and details as data.

    The message says what happened and what to do.
    """

    def __init__(self, code: ErrorCode, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class Vanished(DownloaderError):
    """Files that a download had written are missing. The download starts again with the others."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(ErrorCode.DESTINATION_NOT_WRITABLE, message, **details)


_GONE = {errno.ENOENT, errno.ESTALE}
_MANY_FILES = {errno.EMFILE, errno.ENFILE}
_EXHAUSTED = {*_MANY_FILES, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REMEDIES: tuple[tuple[set[int], str], ...] = (
    (
        {errno.EACCES, errno.EPERM},
        "let the component's user write there, then resume the download",
    ),
    ({errno.EROFS}, "mount it writable, or choose another destination, then resume"),
    (
        {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ELOOP},
        "something else has that name, perhaps a symbolic link; remove it, then resume",
    ),
    ({errno.EBUSY, errno.ETXTBSY}, "another program uses it; stop that program, then resume"),
    (
        {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT},
        "its disk fails or is missing; check that it works and is mounted, then resume",
    ),
    (
        {errno.EFBIG, errno.EOVERFLOW},
        "it is too large for its file system, or for ulimit -f; choose another destination",
    ),
    ({errno.ENAMETOOLONG}, "choose a destination with a shorter path"),
    ({errno.EMLINK}, "its directory is full; choose another destination"),
    (
        {
            errno.EINVAL,
            errno.ENOSYS,
            errno.ENOTSUP,
            errno.ENOTTY,
            errno.EOPNOTSUPP,
            errno.EXDEV,
        },
        "a directory was moved, or its file system cannot do this; resume, or choose one with ext4",
    ),
)


def from_os_error(error: OSError) -> DownloaderError:
    """Return the error for an OSError of the file system.

    Sources of the meanings: errno(3), open(2), rename(2), fsync(2).
    """
    reason = error.strerror or str(error)
    where = f"{error.filename}: {reason}" if error.filename else reason
    if error.errno in _EXHAUSTED:
        return resources_exhausted(where, of_files=error.errno in _MANY_FILES)
    if error.errno in _FULL:
        return DownloaderError(
            ErrorCode.DISK_FULL, f"{where}; free some space there, then resume the download"
        )
    if error.errno in _GONE:
        return Vanished(f"{where}; something removed it; resume to fetch what is missing")
    for numbers, remedy in _REMEDIES:
        if error.errno in numbers:
            return DownloaderError(ErrorCode.DESTINATION_NOT_WRITABLE, f"{where}; {remedy}")
    return DownloaderError(ErrorCode.INTERNAL_ERROR, where)


def from_system(error: Exception) -> DownloaderError | None:
    """Return the error for any exception that Python raises for a failure of the system.

    These are OSError, MemoryError, and a thread that cannot be started. None for other exceptions.
    """
    if isinstance(error, OSError):
        return from_os_error(error)
    if isinstance(error, MemoryError):
        return resources_exhausted("out of memory")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return resources_exhausted(str(error))  # Python has no exception class for this
    return None


def resources_exhausted(what: str, *, of_files: bool = False) -> DownloaderError:
    """Return the error for a lack of memory or threads or, if `of_files`, of open files.

    `what` says what failed. The error is transient.
    """
    remedy = (
        "lower numworkers, or raise ulimit -n"
        if of_files
        else "lower numworkers or MaxConcurrentDownloads, or leave the device more memory"
    )
    return DownloaderError(ErrorCode.RESOURCES_EXHAUSTED, f"{what}; {remedy}")
