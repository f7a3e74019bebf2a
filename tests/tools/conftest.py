"""A small repository with two components, and a copy of the downloader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.project import Component

from .checkout import copy_of_the_downloader

RECIPE = """
RecipeFormatVersion: "2020-01-25"
ComponentName: "{COMPONENT_NAME}"
ComponentVersion: "{COMPONENT_VERSION}"
ComponentPublisher: "{COMPONENT_AUTHOR}"
Manifests:
  - Lifecycle:
      run: {Script: "echo {iot:thingName}"}
    Artifacts:
      - URI: "s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/main-artifact.zip"
"""

SETTINGS = {
    "author": "Somebody",
    "version": "NEXT_PATCH",
    "build": {"build_system": "zip"},
    "publish": {"bucket": "things", "region": "eu-west-1"},
}


def add_component(root: Path, name: str, version: str = "NEXT_PATCH") -> Path:
    """Add a component to the repository; return its folder."""
    folder = root / "components" / name
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "main.py").write_text(f"print('{name}')\n")
    settings = {**SETTINGS, "version": version}
    (folder / "gdk-config.json").write_text(json.dumps({"component": {name: settings}}))
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with the components com.example.One and com.example.Two."""
    add_component(tmp_path, "com.example.One")
    add_component(tmp_path, "com.example.Two", "2.1.0")
    return tmp_path


@pytest.fixture
def downloader(tmp_path: Path) -> Component:
    """The downloader in a copy of this repository, so that building disturbs no other test."""
    return copy_of_the_downloader(tmp_path / "checkout")
