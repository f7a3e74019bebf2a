"""Makes the demo's models on S3: large shards of weights, and small files beside them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3downloader.core.aio import uninterrupted

from ..servers import ObjectServer

__all__ = ["Model", "make_model"]


@dataclass(frozen=True)
class Model:
    """A model on S3: all objects with `prefix`, which ends with a slash.

    `size` is the sum of their sizes in bytes. `digests` has their SHA-256 in hex, by what follows
    the prefix in their keys.
    """

    prefix: str
    size: int
    digests: dict[str, str]

    @property
    def name(self) -> str:
        return self.prefix.rstrip("/")

    async def differences(self, directory: Path) -> list[str]:
        """Return the names of files that are missing, superfluous or different in `directory`."""
        there = await asyncio.to_thread(_digests, directory)
        names = self.digests.keys() | there.keys()
        return sorted(name for name in names if there.get(name) != self.digests.get(name))


async def make_model(objects: ObjectServer, prefix: str, *, size: int, shards: int) -> Model:
    """Write a model to S3 and return it.

    It has `size` bytes of weights in `shards` objects of equal size.
    """
    digests: dict[str, str] = {}
    weights = [f"model-{n:05}-of-{shards:05}.safetensors" for n in range(1, shards + 1)]
    total = 0
    for name, content in _small_files(prefix, weights, size).items():
        data = json.dumps(content, indent=1).encode()
        await objects.put(prefix + name, data)
        digests[name] = hashlib.sha256(data).hexdigest()
        total += len(data)
    for name in weights:
        digests[name] = await uninterrupted(objects.make(prefix + name, size // shards))
        total += size // shards
    return Model(prefix, total, digests)


def _small_files(prefix: str, weights: list[str], size: int) -> dict[str, Any]:
    layers = {f"model.layers.{n}.weight": name for n, name in enumerate(weights)}
    return {
        "config.json": {"_name_or_path": prefix, "model_type": "demo", "torch_dtype": "bfloat16"},
        "generation_config.json": {"do_sample": True, "temperature": 0.7},
        "model.safetensors.index.json": {"metadata": {"total_size": size}, "weight_map": layers},
        "tokenizer.json": {"model": {"type": "BPE", "vocab": {f"▁{n}": n for n in range(5_000)}}},
    }


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): _sha256(path)
        for path in directory.rglob("*")
        if path.is_file()
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
