"""The artifact of a component: a zip file whose bytes depend on its content alone."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from .compact import compact

__all__ = ["NOTE", "pack", "sources"]

NOTE = "SOURCE.txt"
"""A component with this file gets its Python packed without comments and docstrings.

The file tells this to whoever opens the artifact, and where the source is.
"""

_LEFT_OUT = {
    *("recipe.yaml", "gdk-config.json", "README.md", "py.typed"),
    *("greengrass-build", "zip-build", "state"),
}
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can hold; what git leaves as a file's time says nothing."""


def sources(folder: Path) -> dict[str, Path]:
    """Return the component's own files by their names in the artifact.

    Left out are caches, hidden files, tests, and what only builders, readers and type checkers use.
    Links are followed.
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
    """Write `files`, by their names, into the zip file `target`; the same files, the same bytes.

    Scripts (`*.sh`) are executable, everything else is not. Wheels are stored as they are, being
    compressed already. With a NOTE among the files Python files lose their comments and
    docstrings; each line keeps its number.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3  # Unix, wherever it is built
            entry.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            stored = name.endswith(".whl")
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            content = files[name].read_bytes()
            if name.endswith(".py") and NOTE in files:
                content = compact(content.decode()).encode()
            archive.writestr(entry, content, compresslevel=9)
