"""Checks the sources, destinations and paths of downloads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ...core.errors import DownloaderError, ErrorCode
from ...core.objects import SourceRef
from ...core.records import STAGING

__all__ = [
    "STAGING",
    "TargetCheck",
    "check_allowed",
    "check_directory",
    "check_own",
    "check_path",
    "check_source",
    "mounts_below",
    "nearest_existing",
    "overlap",
    "resolve_destination",
    "staging_folder",
    "target",
]

_LONGEST_NAME = 255
_LONGEST_PATH = 4_095
_ESCAPED = re.compile(r"\\([0-7]{3})")


def check_source(source: SourceRef, allowed: Sequence[str]) -> None:
    """Raise SOURCE_NOT_ALLOWED unless a pattern of `allowed` matches the URI of `source`."""
    if not any(fnmatchcase(str(source), pattern) for pattern in allowed):
        raise DownloaderError(
            ErrorCode.SOURCE_NOT_ALLOWED,
            f"{source} matches no pattern of AllowedSources ({', '.join(allowed)});"
            " choose another source, or allow this one",
        )


def resolve_destination(destination: str, roots: Iterable[Path]) -> Path:
    """Return the real path of `destination`, with symlinks and `..` resolved.

    Raises DESTINATION_NOT_ALLOWED if it is in none of `roots`, or in a folder of the downloader.
    Raises DESTINATION_NOT_WRITABLE if a file is in the place of a directory, or if the path is too
    long.
    """
    path = Path(os.path.realpath(destination))
    check_allowed(path, roots, f"{destination} leads to {path}; this")
    if STAGING in path.parts:
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_ALLOWED,
            f"{destination} is in a folder named {STAGING}, which belongs to the downloader; choose"
            " another destination",
        )
    check_directory(path)
    if problem := _reason_unsafe(list(path.parts[1:]), len(os.fsencode(path))):
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{destination} cannot be created: {problem}; choose another destination",
        )
    return path


def check_allowed(path: Path, roots: Iterable[Path], subject: str) -> None:
    """Raise DESTINATION_NOT_ALLOWED unless `path`, which is resolved, is in one of `roots`."""
    allowed = [Path(os.path.realpath(root)) for root in roots]
    if not any(path.is_relative_to(root) for root in allowed):
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_ALLOWED,
            f"{subject} is not in DownloadDir or AllowedDestinations"
            f" ({', '.join(map(str, allowed))})",
        )


def staging_folder(destination: Path, roots: Iterable[Path], download_id: str) -> Path:
    """Return the path of a download's staging folder: hidden, and on the destination's file system.

    It is in the destination, if that exists: then it is on the same file system even if something
    is mounted there. Otherwise it is in the nearest existing directory above it, but in a root.
    """
    for root in map(os.path.realpath, roots):
        if destination.is_relative_to(root):
            Path(root).mkdir(parents=True, exist_ok=True)
    shared = nearest_existing(destination) / STAGING
    check_own(shared)
    return shared / hashlib.sha256(download_id.encode()).hexdigest()[:16]


def check_own(folder: Path) -> None:
    """Raise DESTINATION_NOT_WRITABLE if a folder of the downloader belongs to another user."""
    if os.path.lexists(folder) and (folder.is_symlink() or folder.stat().st_uid != os.geteuid()):
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{folder} is a symlink, or belongs to another user; remove it, or choose another"
            " destination",
        )


def check_path(destination: Path, path: str, key: str) -> None:
    """Raise UNSAFE_KEY unless `path`, relative to `destination`, is safe as a file's path."""
    parts = path.split("/")
    if problem := _reason_unsafe(parts, len(os.fsencode(f"{destination}/{path}"))):
        raise DownloaderError(
            ErrorCode.UNSAFE_KEY,
            f"the key {key!r} cannot become a file below {destination}: {problem};"
            " rename the object or leave it out of the prefix",
            key=key,
        )


def _reason_unsafe(parts: list[str], length: int) -> str | None:
    for part in parts:
        if part == "":
            return "a part of its path is empty"
        if part in (".", ".."):
            return f"a part of its path is {part!r}"
        if part == STAGING:
            return f"{STAGING!r} is a folder of the downloader"
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in part):
            return "it contains a control character"
        if len(os.fsencode(part)) > _LONGEST_NAME:
            return f"a part of its path is longer than {_LONGEST_NAME} bytes"
    if length > _LONGEST_PATH:
        return f"its path is longer than {_LONGEST_PATH} bytes"
    return None


class TargetCheck:
    """Checks the paths of files in a destination that exists already."""

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._sound: set[Path] = set()

    def __call__(self, paths: Iterable[str]) -> None:
        """Raise UNSAFE_KEY or DESTINATION_NOT_WRITABLE for the first path that is not possible."""
        for path in paths:
            full_path = self._destination / path
            if full_path.parent not in self._sound:
                target(self._destination, path)
                check_directory(full_path.parent)
                self._sound.add(full_path.parent)
            if full_path.is_dir():
                raise DownloaderError(
                    ErrorCode.DESTINATION_NOT_WRITABLE,
                    f"{full_path} is a directory where a file belongs; remove it, then resume",
                )


def target(destination: Path, path: str) -> Path:
    """Return the full path of the file `path`. Raises UNSAFE_KEY if it passes through a symlink."""
    full_path = destination / path
    if Path(os.path.realpath(full_path.parent)) != full_path.parent:
        raise DownloaderError(
            ErrorCode.UNSAFE_KEY,
            f"{full_path.parent} is reached through a symlink, which could lead out of"
            f" {destination}; remove the symlink or choose another destination",
        )
    return full_path


def check_directory(path: Path) -> None:
    """Raise DESTINATION_NOT_WRITABLE if `path`, or what is above it, is not a directory."""
    existing = nearest_existing(path)
    if not existing.is_dir():
        raise DownloaderError(
            ErrorCode.DESTINATION_NOT_WRITABLE,
            f"{existing} is a file where a directory must be; choose another destination or"
            " remove the file",
        )


def overlap(one: str, other: str) -> bool:
    """Tell whether one of two absolute paths is the other, or is below it.

    Compares them as text, which is fast: each new download is compared with all others.
    """
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)


def mounts_below(path: Path) -> list[Path]:
    """Return the mount points at or below `path`. Source: proc_pid_mountinfo(5)."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    points = (Path(_ESCAPED.sub(_unescaped, line.split(" ")[4])) for line in lines)
    return [point for point in points if point.is_relative_to(path)]


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def nearest_existing(path: Path) -> Path:
    """Return `path` if it exists, else the nearest existing directory above it."""
    while not os.path.lexists(path):
        path = path.parent
    return path
