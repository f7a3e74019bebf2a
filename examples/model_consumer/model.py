"""Opens a model so that all its files are of one version, even if it is replaced meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["File", "Model"]

_CHUNK = 1 << 20
_OWN_FOLDER = ".s3downloader"  # of the downloader


class File(NamedTuple):
    """A file that was read: its size in bytes, and its SHA-256 in hex."""

    size: int
    sha256: str


class Model:
    """A directory or a file that is held open by a descriptor.

    With `publish: replace`, the downloader replaces the complete directory in one step. Then the
    path leads to another directory. But all files that are opened relative to the descriptor are
    of the version that was there when the descriptor was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open the directory or file at `path`. Raises OSError if there is none."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        """Close the descriptor. This frees the space of a version that has been removed."""
        os.close(self._descriptor)

    def is_at_its_path(self) -> bool:
        """Return whether the path still leads to the directory or file that was opened."""
        try:
            current = self._path.stat()
        except OSError:
            return False
        return os.path.samestat(current, os.fstat(self._descriptor))

    def read(self) -> dict[str, File]:
        """Read all files; return them by their paths in the model. Stands in for loading it.

        Raises OSError if files vanish, because their version is being removed.
        """
        return {name: _read(descriptor) for name, descriptor in self._files()}

    def _files(self) -> Iterator[tuple[str, int]]:
        """Yield the path and a descriptor of each file; it is closed before the next one."""
        if not stat.S_ISDIR(os.fstat(self._descriptor).st_mode):
            yield self._path.name, self._descriptor
            return
        for folder, folders, names, below in os.fwalk(".", onerror=_fail, dir_fd=self._descriptor):
            folders[:] = sorted(set(folders) - {_OWN_FOLDER})
            for name in sorted(names):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=below)
                try:
                    yield os.path.normpath(f"{folder}/{name}"), descriptor
                finally:
                    os.close(descriptor)


def _fail(error: OSError) -> None:
    raise error


def _read(descriptor: int) -> File:
    digest, size = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK, size):
        digest.update(chunk)
        size += len(chunk)
    return File(size, digest.hexdigest())
