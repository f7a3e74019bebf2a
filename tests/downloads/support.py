"""Downloads whose files lie ready in the staging folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3downloader.core.objects import SourceRef
from s3downloader.core.records import Download, Options

__all__ = ["a_download", "tree", "write"]


def a_download(root: Path, key: str = "v2/", **options: Any) -> Download:
    """A download that is to be published at `root/m`, or there as a file of its own name."""
    return Download(
        download_id="d",
        command_id="c",
        source=SourceRef("s3", "models", key),
        layout="tree" if key.endswith("/") else "file",
        destination=str(root / "m"),
        staging=str(root / ".s3downloader" / "0123"),
        options=Options(**options),
        created_at=1.0,
        updated_at=1.0,
    )


def write(directory: Path, files: dict[str, str]) -> None:
    """Write files below a directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def tree(directory: Path) -> dict[str, str]:
    """The files below a directory and their content."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text() for path in files}
