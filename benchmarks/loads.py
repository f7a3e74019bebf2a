"""What is downloaded in a comparison."""

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
    """Objects of these sizes, in bytes, side by side below a prefix of their own."""

    name: str
    title: str
    sizes: tuple[int, ...]

    @property
    def keys(self) -> list[str]:
        return [f"{self.name}/{number:06}" for number in range(len(self.sizes))]

    @property
    def key(self) -> str:
        """What a command names: the prefix, or the one object."""
        return f"{self.name}/" if len(self.sizes) > 1 else self.keys[0]

    @property
    def pattern(self) -> str:
        """The same for a tool that wants a wildcard."""
        return f"{self.name}/*" if len(self.sizes) > 1 else self.keys[0]

    async def upload(self, server: ObjectServer) -> list[str]:
        """Write the objects, each with the checksum that S3 takes of all; return their SHA-256."""
        objects = zip(self.keys, self.sizes, strict=True)
        return await asyncio.gather(*(server.make(*each, "CRC64NVME") for each in objects))

    def check_sizes(self, place: Path) -> None:
        """Raise AssertionError unless exactly the load's files are in `place`."""
        found = {file.name: file.stat().st_size for file in place.iterdir() if file.is_file()}
        expected = {Path(k).name: size for k, size in zip(self.keys, self.sizes, strict=True)}
        assert found == expected, f"{place} holds not what was to be downloaded"

    def check_digests(self, place: Path, digests: list[str]) -> None:
        """Raise AssertionError unless the files have these SHA-256, in the order of the keys."""
        for key, expected in zip(self.keys, digests, strict=True):
            found = sha256(place / Path(key).name)
            assert found == expected, f"{place}: {key} arrived damaged"

    def empty(self, place: Path) -> None:
        """Give the space of the files back, but keep their names.

        ext4 is slow to use inodes that were just set free.
        """
        for key in self.keys:
            os.truncate(place / Path(key).name, 0)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
