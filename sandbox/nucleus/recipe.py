"""Component recipes: configuration, the manifest for this machine, recipe variables.

Source: "AWS IoT Greengrass component recipe reference" in the developer guide.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

__all__ = ["Recipe", "RecipeError", "Step", "interpolate"]

Json = dict[str, Any]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "aarch64", "armv7l": "arm"}
_VARIABLE = re.compile(r"\{(artifacts|configuration|iot|work):([^{}]+)\}")


class RecipeError(Exception):
    """The recipe has nothing for this machine."""


@dataclass(frozen=True)
class Step:
    """One step of a lifecycle: a shell script, and the variables set for it."""

    script: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """What the sandbox needs of a recipe.

    `configuration` is ComponentConfiguration.DefaultConfiguration without its `accessControl`,
    which stands apart.
    """

    component: str
    configuration: Json
    access_control: Json
    manifests: list[Json]

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe.yaml or recipe.json."""
        recipe = yaml.safe_load(path.read_text())
        configuration = recipe.get("ComponentConfiguration", {}).get("DefaultConfiguration", {})
        access_control = configuration.pop("accessControl", {})
        return cls(recipe["ComponentName"], configuration, access_control, recipe["Manifests"])

    def steps(self, *, runtime: str | None = None) -> dict[str, Step]:
        """The steps of the first manifest that suits this machine, by name (`install`, `run`).

        `runtime` is what the nucleus calls itself: nucleus lite is "aws_nucleus_lite" and takes
        only manifests that name it or `*`. Raises RecipeError when none suits.
        """
        for manifest in self.manifests:
            if _suits(manifest.get("Platform", {}), runtime):
                lifecycle = _lower_keys(manifest["Lifecycle"])
                common = lifecycle.pop("setenv", {})
                return {name: _step(step, common) for name, step in lifecycle.items()}
        raise RecipeError(f"no manifest of {self.component} is for this machine; see its Platform")


def interpolate(
    text: str, *, configuration: Mapping[str, Any], artifacts: Path, work: Path, thing_name: str
) -> str:
    """Fill in the recipe variables of a script; one without a value stays as it is.

    `artifacts` is the folder into which the artifacts are unpacked.
    """
    values = {
        ("artifacts", "decompressedPath"): str(artifacts),
        ("work", "path"): str(work),
        ("iot", "thingName"): thing_name,
    }

    def fill(variable: re.Match[str]) -> str:
        namespace, key = variable.groups()
        if namespace == "configuration":
            return _configured(configuration, key.strip("/").split("/")) or variable[0]
        return values.get((namespace, key), variable[0])

    return _VARIABLE.sub(fill, text)


def _configured(configuration: Mapping[str, Any], path: list[str]) -> str | None:
    node: Any = configuration
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    if node is None or isinstance(node, str):
        return node
    return msgspec.json.encode(node).decode()


def _suits(wanted: Mapping[str, str], runtime: str | None) -> bool:
    machine = {
        "os": "linux",
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "runtime": runtime,
    }
    if runtime is not None and "runtime" not in wanted:
        return False
    return all(value in ("*", "all", machine.get(key)) for key, value in wanted.items())


def _step(step: str | Json, common: Mapping[str, str]) -> Step:
    if isinstance(step, str):
        return Step(step, dict(common))
    fields = _lower_keys(step)
    return Step(fields["script"], {**common, **fields.get("setenv", {})})


def _lower_keys(mapping: Json) -> Json:
    return {key.lower(): value for key, value in mapping.items()}
