"""What there is to build: the components of this repository, and their gdk-config.json."""

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
    """What cannot be built or published as it is; the message says what to do."""


@dataclass(frozen=True)
class Component:
    """A component in `folder`, as its gdk-config.json describes it.

    `version` is NEXT_PATCH or a version; `bucket` is the first part of the bucket's name, as for
    gdk, which adds region and account to it.
    """

    folder: Path
    name: str
    author: str
    version: str
    bucket: str
    region: str

    @property
    def build_folder(self) -> Path:
        """Where gdk expects what was built."""
        return self.folder / "greengrass-build"

    @property
    def artifacts_folder(self) -> Path:
        """The folder of the built artifacts."""
        return self.build_folder / "artifacts" / self.name / self.version

    @property
    def built_recipe(self) -> Path:
        """The built recipe, still without bucket and version."""
        return self.build_folder / "recipes" / "recipe.yaml"


def components(root: Path = ROOT) -> list[Component]:
    """Return the components below `components` and `examples`: the folders with a recipe.yaml."""
    recipes = [
        recipe
        for room in ("components", "examples")
        for recipe in root.glob(f"{room}/*/recipe.yaml")
    ]
    if not recipes:
        raise ProjectError(f"there is no component below {root}; is it the repository?")
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
        raise ProjectError(f"{path}: version is {component.version!r}; give 1.0.0 or NEXT_PATCH")
    return component
