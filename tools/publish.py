"""Builds all components and publishes those that have changed: `python -m tools.publish`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from . import build as building
from .project import NEXT_PATCH, ROOT, Component, ProjectError

__all__ = ["Gdk", "Publisher", "Record", "digest", "main", "publish"]

RECORD = ROOT / ".greengrass" / "published.json"


class Publisher(Protocol):
    """An account in a region, to which components are published."""

    place: str
    """Account and region, such as `123456789012/eu-west-1`."""

    def versions(self, component: Component) -> list[str]:
        """Return the versions that exist, in any order."""

    def publish(self, component: Component, version: str) -> None:
        """Publish the built component, and wait until it can be deployed."""


class Record:
    """The last publication of each component: the digest of its build, and its version.

    It is kept by place in a file that is not committed, because it belongs to one account.
    """

    def __init__(self, path: Path = RECORD) -> None:
        self._path = path
        self._published: dict[str, dict[str, list[str]]] = {}
        if path.exists():
            try:
                self._published = json.loads(path.read_text())
            except ValueError as error:
                raise ProjectError(
                    f"{path} is not JSON; delete it, and all components are published again"
                ) from error

    def version_of(self, place: str, component: Component, of_build: str) -> str | None:
        """Return the version of the last publication, if it was of the build with this digest."""
        known, version = self._published.get(place, {}).get(component.name, ["", ""])
        return version if known == of_build else None

    def add(self, place: str, component: Component, of_build: str, version: str) -> None:
        """Record a publication, and write the file at once, because the next one may fail."""
        self._published.setdefault(place, {})[component.name] = [of_build, version]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._published, indent=2, sort_keys=True) + "\n")
        new.replace(self._path)


def digest(component: Component) -> str:
    """Return the SHA-256 of the built recipe and artifacts, in hex."""
    total = hashlib.sha256()
    for file in [component.built_recipe, *sorted(component.artifacts_folder.iterdir())]:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.name} {content}\n".encode())
    return total.hexdigest()


def publish(
    component: Component, publisher: Publisher, record: Record, *, dry_run: bool = False
) -> str:
    """Publish a built component if it has changed; return a line about what was done.

    Raises ProjectError if it has changed, but the version of gdk-config.json already exists.
    """
    of_build = digest(component)
    existing = publisher.versions(component)
    known = record.version_of(publisher.place, component, of_build)
    if known in existing:
        return f"{component.name}: unchanged since {known}"
    version = _next(component, existing)
    if dry_run:
        return f"{component.name}: would be published as {version} to {publisher.place}"
    publisher.publish(component, version)
    record.add(publisher.place, component, of_build, version)
    return f"{component.name}: published as {version} to {publisher.place}"


def _next(component: Component, existing: Sequence[str]) -> str:
    if component.version == NEXT_PATCH:
        newest = max((_release(version) for version in existing), default=None)
        return "1.0.0" if newest is None else f"{newest[0]}.{newest[1]}.{newest[2] + 1}"
    if component.version in existing:
        raise ProjectError(
            f"{component.name} {component.version} exists already, and this build differs from the"
            f" last published one; set another version in gdk-config.json, or {NEXT_PATCH}"
        )
    return component.version


def _release(version: str) -> tuple[int, int, int]:
    major, minor, patch = version.split("+")[0].split("-")[0].split(".")
    return int(major), int(minor), int(patch)


class Gdk:
    """Publishes with gdk, which must also have built the component; lists with `publisher`."""

    def __init__(self, publisher: Publisher, region: str, bucket: str | None) -> None:
        self.place = publisher.place
        self._publisher = publisher
        self._options = ["--region", region, *(["--bucket", bucket] if bucket else [])]

    def versions(self, component: Component) -> list[str]:
        return self._publisher.versions(component)

    def publish(self, component: Component, version: str) -> None:
        command = ["gdk", "component", "publish", *self._options]
        subprocess.run(command, cwd=component.folder, check=True)
        if version not in self.versions(component):
            raise ProjectError(
                f"gdk has not published {component.name} {version}; see its output for the reason"
            )


def _publisher(region: str, bucket: str | None, *, bundled: bool) -> Publisher:
    from .aws import Aws  # importing boto3 takes half a second

    aws = Aws.of_the_environment(region, bucket=bucket)
    return aws if bundled or not shutil.which("gdk") else Gdk(aws, region, bucket)


def main(given: Sequence[str], environment: Mapping[str, str]) -> int:
    """Build and publish the components that the arguments choose; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="publish_all.sh",
        description="Builds all components and publishes those that have changed.",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be published")
    parser.add_argument(
        "--region",
        default=environment.get("AWS_REGION"),
        help="the region; by default AWS_REGION, or else that of gdk-config.json",
    )
    parser.add_argument(
        "--bucket", help="the complete name of the bucket, instead of that of gdk-config.json"
    )
    parser.add_argument(
        "--bundled", action="store_true", help="publish without gdk, even if it is installed"
    )
    arguments, for_build = parser.parse_known_args(given)
    try:
        if building.main([*for_build, *(["--bundled"] if arguments.bundled else [])]):
            return 1
        record = Record()
        for component in building.chosen(for_build):
            region = arguments.region or component.region
            publisher = _publisher(region, arguments.bucket, bundled=arguments.bundled)
            print(publish(component, publisher, record, dry_run=arguments.dry_run), flush=True)
    except (ProjectError, subprocess.CalledProcessError) as error:
        print(f"publish_all.sh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
