"""The objects that are downloaded in a comparison."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from sandbox.servers import ObjectServer

__all__ = ["Load", "sha256"]

_BLOCK = 1 << 20


class Load(NamedTuple):
    """Objects with a common prefix; `sizes` are their sizes in bytes."""

    name: str
    title: str
    sizes: tuple[int, ...]

    @property
    def keys(self) -> list[str]:
        return [f"{self.name}/{number:06}" for number in range(len(self.sizes))]

    @property
    def key(self) -> str:
        """The key for a command: the prefix, or the key of the only object."""
        return f"{self.name}/" if len(self.sizes) > 1 else self.keys[0]

    @property
    def pattern(self) -> str:
        """The same for a program that needs a wildcard: `PREFIX/*`, or the only key."""
        return f"{self.name}/*" if len(self.sizes) > 1 else self.keys[0]

    async def upload(self, server: ObjectServer) -> list[str]:
        """Write the objects with their CRC64NVME, as S3 has it; return their SHA-256 in hex."""
        objects = zip(self.keys, self.sizes, strict=True)
        return await asyncio.gather(*(server.make(*each, "CRC64NVME") for each in objects))

    def check_sizes(self, target: Path) -> None:
        """Raise AssertionError if `target` has other files, or files of other sizes."""
        found = {file.name: file.stat().st_size for file in target.iterdir() if file.is_file()}
        expected = {Path(k).name: size for k, size in zip(self.keys, self.sizes, strict=True)}
        assert found == expected, f"the files in {target} are not those of the load"

    def check_digests(self, target: Path, digests: list[str]) -> None:
        """Raise AssertionError if a SHA-256 differs from `digests`, in the order of the keys."""
        for key, expected in zip(self.keys, digests, strict=True):
            found = sha256(target / Path(key).name)
            assert found == expected, f"{target}: {key} is damaged"

    def empty(self, target: Path) -> None:
        """Truncate the files in `target` to free their space.

        They are not deleted, because ext4 is slow to reuse inodes that were just freed.
        """
        for key in self.keys:
            os.truncate(target / Path(key).name, 0)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
