"""Builds all components, in the layout of gdk: `python -m tools.build`, by build_all.sh."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import wheels
from .artifact import pack, sources
from .project import Component, ProjectError, components

__all__ = ["ARTIFACT", "build", "chosen", "main"]

ARTIFACT = "main-artifact.zip"
_HANDED_ON = "S3DOWNLOADER_BUILD_ARGUMENTS"
"""The environment variable with the arguments of build_all.sh, for the build that gdk starts."""
_SHADOWS = """\
  aws.greengrass.ShadowManager:
    VersionRequirement: ">=2.0.0"
    DependencyType: "SOFT"
"""


def build(
    component: Component,
    *,
    vendor: bool = False,
    platforms: Sequence[str] = wheels.PLATFORMS,
    pythons: Sequence[str] = wheels.PYTHONS,
    shadow_manager: bool = False,
) -> Path:
    """Build a component; return the path of its artifact. Equal sources give equal bytes.

    Writes `greengrass-build/artifacts/NAME/VERSION/main-artifact.zip`, and
    `greengrass-build/recipes/recipe.yaml` with name, version and author, as gdk does. The bucket
    is set when it is published. With `vendor` the artifact has wheels for `platforms` and
    `pythons`. With `shadow_manager` the recipe depends on ShadowManager. Raises ProjectError if
    there are no such wheels.
    """
    shutil.rmtree(component.build_folder, ignore_errors=True)
    files = sources(component.folder)
    artifact = component.artifacts_folder / ARTIFACT
    with tempfile.TemporaryDirectory() as directory:
        requirements = component.folder / "requirements.txt"
        if vendor and requirements.exists():
            fetched = Path(directory) / "wheels"
            wheels.fetch(requirements, fetched, platforms=platforms, pythons=pythons)
            files |= {f"wheels/{file.name}": file for file in fetched.iterdir()}
        pack(files, artifact)
    _write_recipe(component, shadow_manager=shadow_manager)
    return artifact


def _write_recipe(component: Component, *, shadow_manager: bool) -> None:
    text = (component.folder / "recipe.yaml").read_text()
    if shadow_manager:
        text = text.replace("\nComponentDependencies:\n", f"\nComponentDependencies:\n{_SHADOWS}")
    for placeholder, value in {
        "{COMPONENT_NAME}": component.name,
        "{COMPONENT_VERSION}": component.version,
        "{COMPONENT_AUTHOR}": component.author,
    }.items():
        text = text.replace(placeholder, value)
    component.built_recipe.parent.mkdir(parents=True)
    component.built_recipe.write_text(text)


def _build_with_gdk(component: Component, arguments: Sequence[str]) -> None:
    environment = {**os.environ, _HANDED_ON: shlex.join(arguments)}
    command = ["gdk", "component", "build"]
    subprocess.run(command, cwd=component.folder, env=environment, check=True)
    if not (component.artifacts_folder / ARTIFACT).exists():
        raise ProjectError(f"gdk has not built {component.name}; see its output for the reason")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build_all.sh", description="Builds all components, and with --images the images too."
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="build only this component (repeatable)"
    )
    parser.add_argument(
        "--vendor", action="store_true", help="put wheels into the artifact, for offline devices"
    )
    parser.add_argument(
        "--platform",
        action="append",
        choices=wheels.PLATFORMS,
        help="with --vendor: only wheels for this machine (repeatable)",
    )
    parser.add_argument(
        "--python",
        action="append",
        choices=wheels.PYTHONS,
        help="with --vendor: only wheels for this version of Python (repeatable)",
    )
    parser.add_argument(
        "--shadow-manager",
        action="store_true",
        help="make the recipe depend on ShadowManager, for fleets with only the Java nucleus",
    )
    parser.add_argument(
        "--bundled", action="store_true", help="build without gdk, even if it is installed"
    )
    return parser


def chosen(given: Sequence[str]) -> list[Component]:
    """Return the components that the arguments choose. Raises ProjectError for unknown names."""
    only = _parser().parse_args(given).only
    found = components()
    if unknown := {*(only or ())} - {component.name for component in found}:
        names = ", ".join(component.name for component in found)
        raise ProjectError(
            f"there is no component {', '.join(unknown)}; the components are {names}"
        )
    return [component for component in found if not only or component.name in only]


def main(given: Sequence[str]) -> int:
    """Build the components that the arguments choose; return the exit status."""
    given = [*given, *shlex.split(os.environ.get(_HANDED_ON, ""))]
    arguments = _parser().parse_args(given)
    try:
        for component in chosen(given):
            if shutil.which("gdk") and not arguments.bundled:
                _build_with_gdk(component, given)
            else:
                build(
                    component,
                    vendor=arguments.vendor,
                    platforms=arguments.platform or wheels.PLATFORMS,
                    pythons=arguments.python or wheels.PYTHONS,
                    shadow_manager=arguments.shadow_manager,
                )
            artifact = component.artifacts_folder / ARTIFACT
            print(f"{component.name}: {artifact}, {artifact.stat().st_size:,} bytes")
    except (ProjectError, subprocess.CalledProcessError) as error:
        print(f"build_all.sh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
