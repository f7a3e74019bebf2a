"""Checks whether a release can be made, and shows the commands for it: `make release`.

It changes nothing outside this machine.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import build as building
from .project import ROOT, ProjectError, components
from .publish import digest

__all__ = ["build_twice", "check", "main", "notes", "version"]

DOWNLOADER = "aws.samples.S3Downloader"
_VERSION = re.compile(r'^version = "(\d+\.\d+\.\d+)"$', re.MULTILINE)


def version(root: Path) -> str:
    """Return the version in pyproject.toml. Raises ProjectError if there is none."""
    found = _VERSION.search((root / "pyproject.toml").read_text())
    if not found:
        raise ProjectError('pyproject.toml has no line version = "MAJOR.MINOR.PATCH"')
    return found[1]


def notes(root: Path, of: str) -> str:
    """Return the section of a version in CHANGELOG.md, without its heading.

    Raises ProjectError if there is none.
    """
    sections = (root / "CHANGELOG.md").read_text().split("\n## ")[1:]
    for section in sections:
        heading, _, text = section.partition("\n")
        if re.fullmatch(rf"\[?{re.escape(of)}\]? - \d{{4}}-\d\d-\d\d", heading.strip()):
            return text.strip() + "\n"
    raise ProjectError(
        f"CHANGELOG.md has no heading `## {of} - YYYY-MM-DD`; rename `## Unreleased`, and"
        " add a new `## Unreleased` above it"
    )


def check(root: Path, *, tagged: bool) -> list[str]:
    """Return the reasons why the present version cannot be released; an empty list for none.

    With `tagged` the tag of the version must name this commit; otherwise it must not exist yet.
    """
    tag, obstacles = f"v{version(root)}", []
    if _git(root, "status", "--porcelain"):
        obstacles.append("there are uncommitted changes; commit them")
    commit, head = _git(root, "rev-list", "-1", tag), _git(root, "rev-parse", "HEAD")
    if tagged and commit != head:
        obstacles.append(f"the tag {tag} does not name this commit")
    if not tagged and commit:
        obstacles.append(f"the tag {tag} exists; raise the version in pyproject.toml")
    try:
        notes(root, version(root))
    except ProjectError as error:
        obstacles.append(str(error))
    return obstacles


def build_twice(root: Path) -> tuple[Path, str]:
    """Build the downloader; return the path of its artifact, and the SHA-256 of the build.

    Raises ProjectError if a second build gives other bytes.
    """
    [component] = [c for c in components(root) if c.name == DOWNLOADER]
    artifact = building.build(component)
    first = digest(component)
    building.build(component)
    if digest(component) != first:
        raise ProjectError("two builds of the same sources differ; see tools/artifact.py")
    return artifact, first


def _git(root: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    return ended.stdout.strip() if ended.returncode == 0 else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make release", description="Checks a release and shows the commands that make it."
    )
    parser.add_argument("--tagged", action="store_true", help="fail unless this commit is tagged")
    parser.add_argument("--notes", type=Path, metavar="FILE", help="write the release notes to it")
    return parser


def main(given: Sequence[str], root: Path = ROOT) -> int:
    """Run what the arguments choose; return the exit status, 1 if `--tagged` is not fulfilled."""
    arguments = _parser().parse_args(given)
    try:
        number, obstacles = version(root), check(root, tagged=arguments.tagged)
        artifact, built = build_twice(root)
        if arguments.notes and not obstacles:
            arguments.notes.write_text(notes(root, number))
    except ProjectError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(f"version   {number}")
    print(f"artifact  {artifact}, {artifact.stat().st_size:,} bytes")
    print(f"digest    {built} (built twice, the same bytes)")
    for obstacle in obstacles:
        print(f"not yet:  {obstacle}")
    if obstacles:
        return 1 if arguments.tagged else 0
    print(f"\nto release it:\n  git tag -a v{number} -m v{number}\n  git push origin v{number}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
