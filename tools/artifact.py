"""Packs the artifact of a component: a zip file whose bytes depend only on its content."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from .compact import compact

__all__ = ["NOTE", "pack", "sources"]

NOTE = "SOURCE.txt"
"""If a component has this file, its Python files are packed without comments and docstrings.

The file tells readers of the artifact about this, and where the source is.
"""

_LEFT_OUT = {
    *("recipe.yaml", "gdk-config.json", "README.md", "py.typed"),
    *("greengrass-build", "zip-build", "state"),
}
_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of all files: the earliest in a zip file. Times in a git checkout mean nothing."""


def sources(folder: Path) -> dict[str, Path]:
    """Return the paths of the component's files, by their names in the artifact.

    Caches, hidden files, tests, and files that only builders, readers or type checkers use are
    left out. Links are followed.
    """
    return {file.relative_to(folder).as_posix(): file for file in _walk(folder)}


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _LEFT_OUT or path.name.startswith((".", "test")):
            continue
        if path.name == "__pycache__" or path.suffix in (".pyc", ".egg-info"):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def pack(files: dict[str, Path], target: Path) -> None:
    """Write `files`, by their names, to the zip file `target`. Equal files give equal bytes.

    Only scripts (`*.sh`) are executable. Wheels are not compressed again. If NOTE is among the
    files, comments and docstrings are removed from Python files; lines keep their numbers.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3  # Unix, on whatever system it is built
            entry.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            stored = name.endswith(".whl")
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            content = files[name].read_bytes()
            if name.endswith(".py") and NOTE in files:
                content = compact(content.decode()).encode()
            archive.writestr(entry, content, compresslevel=9)
