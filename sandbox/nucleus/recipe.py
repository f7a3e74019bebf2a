"""Reads component recipes: the configuration, the manifest for this machine, recipe variables.

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

_STEPS = ("bootstrap", "install", "run", "startup", "shutdown", "recover")
_KEYS = ("Script", "Setenv", "Timeout", "RequiresPrivilege", "Skipif")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "aarch64", "armv7l": "arm"}
_BRACES = re.compile(r"\{([^{}]*)\}")


class RecipeError(Exception):
    """The recipe cannot be used: it has no manifest for this machine, or a script is wrong."""


@dataclass(frozen=True)
class Step:
    """One step of a lifecycle: a shell script, and its environment variables.

    `timeout` is in seconds; None if the recipe has none.
    """

    script: str
    environment: dict[str, str]
    timeout: float | None = None


@dataclass(frozen=True)
class Recipe:
    """The parts of a recipe that the sandbox needs.

    `configuration` is ComponentConfiguration.DefaultConfiguration without `accessControl`, which
    is in `access_control`. `dependencies` has HARD or SOFT, by the name of the component.
    """

    component: str
    configuration: Json
    access_control: Json
    manifests: list[Json]
    dependencies: dict[str, str]

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe.yaml or recipe.json."""
        recipe = yaml.safe_load(path.read_text())
        configuration = recipe.get("ComponentConfiguration", {}).get("DefaultConfiguration", {})
        access_control = configuration.pop("accessControl", {})
        dependencies = {
            name: dependency.get("DependencyType", "HARD")
            for name, dependency in recipe.get("ComponentDependencies", {}).items()
        }
        name, manifests = recipe["ComponentName"], recipe["Manifests"]
        return cls(name, configuration, access_control, manifests, dependencies)

    def steps(
        self, *, runtime: str | None = None, architecture: str | None = None
    ) -> dict[str, Step]:
        """Return the steps of the first manifest for this machine, by name (`install`, `run`).

        `runtime` is "aws_nucleus_lite" for nucleus lite, else None. Nucleus lite accepts only
        manifests whose runtime is its own or `*`, and keys that are spelled as in the reference.
        `architecture` is by default that of this machine. Raises RecipeError if no manifest
        matches.
        """
        for manifest in self.manifests:
            if _suits(manifest.get("Platform", {}), runtime, architecture or _architecture()):
                lifecycle = manifest["Lifecycle"]
                if runtime is None:
                    lifecycle = _any_case(lifecycle)
                common = lifecycle.get("Setenv", {})
                return {
                    name: _step(step, common, any_case=runtime is None)
                    for name, step in lifecycle.items()
                    if name in _STEPS
                }
        raise RecipeError(
            f"no manifest of {self.component} is for this machine; see Platform in its recipe"
        )


def interpolate(
    text: str,
    *,
    configuration: Mapping[str, Any],
    artifacts: Path,
    work: Path,
    thing_name: str,
    strict: bool = False,
) -> str:
    """Replace the recipe variables in a script by their values.

    `artifacts` is the folder of the unpacked artifacts. A variable without a value stays as it
    is. But with `strict`, as for nucleus lite, RecipeError is raised if anything in braces is not
    a variable with a value.
    """
    values = {
        ("artifacts", "decompressedPath"): str(artifacts),
        ("work", "path"): str(work),
        ("iot", "thingName"): thing_name,
    }

    def fill(variable: re.Match[str]) -> str:
        namespace, _, key = variable[1].partition(":")
        if namespace == "configuration":
            value = _configured(configuration, key.strip("/").split("/"))
        else:
            value = values.get((namespace, key))
        if value is None and strict:
            raise RecipeError(f"{variable[0]} is not a recipe variable, or has no value")
        return variable[0] if value is None else value

    return _BRACES.sub(fill, text)


def _configured(configuration: Mapping[str, Any], path: list[str]) -> str | None:
    node: Any = configuration
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    if node is None or isinstance(node, str):
        return node
    return msgspec.json.encode(node).decode()


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _suits(wanted: Mapping[str, str], runtime: str | None, architecture: str) -> bool:
    machine = {"os": "linux", "architecture": architecture, "runtime": runtime}
    if runtime is not None and "runtime" not in wanted:
        return False
    return all(value in ("*", "all", machine.get(key)) for key, value in wanted.items())


def _step(step: str | Json, common: Mapping[str, str], *, any_case: bool) -> Step:
    if isinstance(step, str):
        return Step(step, dict(common))
    fields = _any_case(step) if any_case else step
    if "Script" not in fields:
        raise RecipeError(f"a step has no Script; it has only {', '.join(fields)}")
    timeout = fields.get("Timeout")
    return Step(
        fields["Script"],
        {**common, **fields.get("Setenv", {})},
        None if timeout is None else float(timeout),
    )


def _any_case(mapping: Json) -> Json:
    """Return the mapping with its keys spelled as in the reference, whatever their case."""
    spelled = {key.lower(): key for key in (*_KEYS, *_STEPS)}
    return {spelled.get(key.lower(), key): value for key, value in mapping.items()}
