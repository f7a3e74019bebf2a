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

_STEPS = ("bootstrap", "install", "run", "startup", "shutdown", "recover")
_KEYS = ("Script", "Setenv", "Timeout", "RequiresPrivilege", "Skipif")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "aarch64", "armv7l": "arm"}
_BRACES = re.compile(r"\{([^{}]*)\}")


class RecipeError(Exception):
    """The recipe has nothing for this machine."""


@dataclass(frozen=True)
class Step:
    """One step of a lifecycle: a shell script, and the variables set for it.

    `timeout` is in seconds, None where the recipe has none.
    """

    script: str
    environment: dict[str, str]
    timeout: float | None = None


@dataclass(frozen=True)
class Recipe:
    """What the sandbox needs of a recipe.

    `configuration` is ComponentConfiguration.DefaultConfiguration without its `accessControl`,
    which stands apart. `dependencies` has HARD or SOFT by the name of a component.
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
        """The steps of the first manifest that suits this machine, by name (`install`, `run`).

        `runtime` is what the nucleus calls itself: nucleus lite is "aws_nucleus_lite"; it takes
        only manifests that name it or `*`, and keys only as they are spelt in the reference.
        `architecture` is that of another machine. Raises RecipeError when none suits.
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
        raise RecipeError(f"no manifest of {self.component} is for this machine; see its Platform")


def interpolate(
    text: str,
    *,
    configuration: Mapping[str, Any],
    artifacts: Path,
    work: Path,
    thing_name: str,
    strict: bool = False,
) -> str:
    """Fill in the recipe variables of a script; one without a value stays as it is.

    `artifacts` is the folder into which the artifacts are unpacked. With `strict`, as for nucleus
    lite, whatever stands in braces must be a variable with a value, else RecipeError is raised.
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
            raise RecipeError(f"{variable[0]} is no recipe variable, or one without a value")
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
        raise RecipeError(f"a step has no Script, only {', '.join(fields)}")
    timeout = fields.get("Timeout")
    return Step(
        fields["Script"],
        {**common, **fields.get("Setenv", {})},
        None if timeout is None else float(timeout),
    )


def _any_case(mapping: Json) -> Json:
    """Spell the keys as the reference does, however they are spelt."""
    spelt = {key.lower(): key for key in (*_KEYS, *_STEPS)}
    return {spelt.get(key.lower(), key): value for key, value in mapping.items()}
