"""A model, opened so that it stays one version whatever happens to its path meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["File", "Model"]

_CHUNK = 1 << 20
_DOWNLOADER_S_OWN = ".s3downloader"


class File(NamedTuple):
    """What was read of one file: its size in bytes, and the SHA-256 of its content in hex."""

    size: int
    sha256: str


class Model:
    """A directory, or a file, held open by its descriptor.

    The downloader puts a new version in its place in one step (`publish: replace`), so the path
    leads to another directory from one moment to the next. Files that are opened below a descriptor
    are all of the version that it was opened on, also while that is moved aside.
    """

    def __init__(self, path: Path) -> None:
        """Open what stands at `path` now; raises OSError when nothing does."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        """Let go of it, so that the space of a version that was removed becomes free."""
        os.close(self._descriptor)

    def is_at_its_path(self) -> bool:
        """Whether the path still leads to what was opened."""
        try:
            there = self._path.stat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def read(self) -> dict[str, File]:
        """Read every file, by its path inside the model: a stand-in for loading it.

        Raises OSError when files vanish meanwhile, since their version is being removed.
        """
        return {name: _read(descriptor) for name, descriptor in self._files()}

    def _files(self) -> Iterator[tuple[str, int]]:
        """Open one file after the other; each descriptor is open until the next is asked for."""
        if not stat.S_ISDIR(os.fstat(self._descriptor).st_mode):
            yield self._path.name, self._descriptor
            return
        for folder, folders, names, below in os.fwalk(".", onerror=_fail, dir_fd=self._descriptor):
            folders[:] = sorted(set(folders) - {_DOWNLOADER_S_OWN})
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
