"""Finds the components of this repository, and reads their gdk-config.json."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Component", "ProjectError", "components"]

ROOT = Path(__file__).resolve().parents[1]
NEXT_PATCH = "NEXT_PATCH"
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")


class ProjectError(Exception):
    """Something cannot be built or published; the message says what to do."""


@dataclass(frozen=True)
class Component:
    """The component in `folder`, with the settings of its gdk-config.json.

    `version` is NEXT_PATCH or a version. `bucket` is the first part of the bucket's name, to which
    region and account are added, as gdk does.
    """

    folder: Path
    name: str
    author: str
    version: str
    bucket: str
    region: str

    @property
    def build_folder(self) -> Path:
        """The folder for everything that is built, as gdk expects it."""
        return self.folder / "greengrass-build"

    @property
    def artifacts_folder(self) -> Path:
        """The folder of the built artifacts."""
        return self.build_folder / "artifacts" / self.name / self.version

    @property
    def built_recipe(self) -> Path:
        """The path of the built recipe, which has no bucket yet."""
        return self.build_folder / "recipes" / "recipe.yaml"


def components(root: Path = ROOT) -> list[Component]:
    """Return the components in `components` and `examples`: the folders with a recipe.yaml.

    Raises ProjectError if there are none, or if a gdk-config.json is wrong.
    """
    recipes = [
        recipe
        for folder in ("components", "examples")
        for recipe in root.glob(f"{folder}/*/recipe.yaml")
    ]
    if not recipes:
        raise ProjectError(f"there is no component in {root}; run this in the repository")
    return [_read(recipe.parent) for recipe in sorted(recipes)]


def _read(folder: Path) -> Component:
    path = folder / "gdk-config.json"
    try:
        [(name, settings)] = json.loads(path.read_text())["component"].items()
        component = Component(
            folder=folder,
            name=name,
            author=settings["author"],
            version=settings["version"],
            bucket=settings["publish"]["bucket"],
            region=settings["publish"]["region"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(
            f"{path} must be a gdk-config.json of one component with author, version and publish"
            f" ({type(error).__name__}: {error})"
        ) from error
    if component.version != NEXT_PATCH and not _VERSION.fullmatch(component.version):
        raise ProjectError(
            f"{path}: version is {component.version!r}; it must be like 1.0.0, or NEXT_PATCH"
        )
    return component
