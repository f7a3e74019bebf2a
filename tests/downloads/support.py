"""Downloads whose files are complete in the staging folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3downloader.core.objects import SourceRef
from s3downloader.core.records import Download, Options

__all__ = ["a_download", "tree", "write"]


def a_download(root: Path, key: str = "v2/", **options: Any) -> Download:
    """Return a download to be published at `root/m`; a single file goes into that folder."""
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
    """Write files with these contents, by their paths in `directory`."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def tree(directory: Path) -> dict[str, str]:
    """Return the contents of all files in `directory`, by their paths."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_text() for path in files}
