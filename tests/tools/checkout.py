"""Copies the parts of this repository that building needs."""

from __future__ import annotations

import shutil
from pathlib import Path

from tools.project import ROOT, Component, components

__all__ = ["copy_of_the_downloader"]


def copy_of_the_downloader(root: Path) -> Component:
    """Copy the components to `root`; return the downloader there."""
    left_out = shutil.ignore_patterns("__pycache__", "greengrass-build")
    shutil.copytree(ROOT / "components", root / "components", symlinks=True, ignore=left_out)
    shutil.copy(ROOT / "gdk-config.json", root)
    return next(c for c in components(root) if c.name == "aws.samples.S3Downloader")
