"""Errors of the system get the right code, and a text that says what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from s3downloader.core.errors import TRANSIENT, ErrorCode, from_os_error, from_system


def into_itself(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a").rename(folder / "a" / "b")


def over_a_full_directory(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "a").rename(folder / "b")


def through_links_in_a_circle(folder: Path) -> None:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    (folder / "a" / "c").write_text("")


def to_a_long_name(folder: Path) -> None:
    (folder / ("x" * 300)).write_text("")


def to_what_is_gone(folder: Path) -> None:
    (folder / "gone" / "a").write_text("")


def to_another_file_system(folder: Path) -> None:
    os.link("/proc/self/status", folder / "a")


def below_a_file(folder: Path) -> None:
    (folder / "a").write_text("")
    (folder / "a" / "b").write_text("")


@pytest.mark.parametrize(
    ("write", "advice"),
    [
        (into_itself, "moved"),
        (over_a_full_directory, "something else has that name"),
        (through_links_in_a_circle, "symbolic link"),
        (to_a_long_name, "shorter"),
        (to_what_is_gone, "removed it"),
        (to_another_file_system, "file system"),
        (below_a_file, "something else has that name"),
    ],
)
def test_what_cannot_be_written_is_told_with_what_to_do(
    tmp_path: Path, write: Callable[[Path], None], advice: str
) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        write(tmp_path)
    error = from_os_error(caught.value)
    assert error.code is ErrorCode.DESTINATION_NOT_WRITABLE
    assert str(caught.value.filename) in error.message
    assert advice in error.message


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, ErrorCode.DISK_FULL),
        (errno.EDQUOT, ErrorCode.DISK_FULL),
        (errno.EIO, ErrorCode.DESTINATION_NOT_WRITABLE),
        (errno.ESTALE, ErrorCode.DESTINATION_NOT_WRITABLE),
        (errno.EBUSY, ErrorCode.DESTINATION_NOT_WRITABLE),
        (errno.ETXTBSY, ErrorCode.DESTINATION_NOT_WRITABLE),
        (errno.EFBIG, ErrorCode.DESTINATION_NOT_WRITABLE),
        (errno.EROFS, ErrorCode.DESTINATION_NOT_WRITABLE),
        (errno.EMFILE, ErrorCode.RESOURCES_EXHAUSTED),
        (errno.ENFILE, ErrorCode.RESOURCES_EXHAUSTED),
        (errno.ENOMEM, ErrorCode.RESOURCES_EXHAUSTED),
        (errno.EAGAIN, ErrorCode.RESOURCES_EXHAUSTED),
        (errno.EDOM, ErrorCode.INTERNAL_ERROR),
    ],
)
def test_each_error_of_the_system_has_its_code(number: int, code: ErrorCode) -> None:
    error = from_os_error(OSError(number, os.strerror(number)))
    assert error.code is code
    assert error.message.startswith(os.strerror(number))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("can't start new thread"), BlockingIOError(errno.EAGAIN, "fork")],
)
def test_a_lack_of_memory_or_threads_passes(error: Exception) -> None:
    known = from_system(error)
    assert known
    assert known.code in TRANSIENT
    assert "MaxConcurrentDownloads" in known.message


def test_an_error_of_the_program_is_none_of_the_system() -> None:
    assert from_system(RuntimeError("dictionary changed size")) is None
    assert from_system(ValueError()) is None
