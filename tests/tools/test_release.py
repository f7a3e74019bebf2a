"""The output of a dry run of a release."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.project import ROOT, ProjectError
from tools.release import check, main, notes, version

from .checkout import copy_of_the_downloader

CHANGELOG = """# Changelog

## Unreleased

- Something that comes later.

## 1.2.0 - 2026-11-25

- The first line.
- The second line.

## 1.1.0 - 2026-10-01

- Older.
"""


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository without uncommitted changes, whose version 1.2.0 is ready."""
    root = tmp_path / "checkout"
    copy_of_the_downloader(root)
    shutil.copy(ROOT / ".gitignore", root)
    (root / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "Begin")
    return root


def test_notes_are_those_of_the_version(checkout: Path) -> None:
    assert notes(checkout, "1.2.0") == "- The first line.\n- The second line.\n"


def test_notes_that_are_missing(checkout: Path) -> None:
    with pytest.raises(ProjectError, match=r"no heading `## 1\.3\.0 - YYYY-MM-DD`"):
        notes(checkout, "1.3.0")


def test_version_that_is_missing(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(ProjectError, match="no line version"):
        version(checkout)


def test_ready_to_be_released(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], checkout) == 0
    output = capsys.readouterr().out
    assert "git tag -a v1.2.0" in output
    assert "not yet" not in output
    assert not check(checkout, tagged=False)  # the build left nothing to commit


def test_what_is_not_committed(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "CHANGELOG.md").write_text("# Changelog\n")
    assert main([], checkout) == 0
    output = capsys.readouterr().out
    assert "not yet:  there are uncommitted changes" in output
    assert "not yet:  CHANGELOG.md has no heading" in output
    assert "git tag" not in output


def test_tag_that_exists(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.0")
    [obstacle] = check(checkout, tagged=False)
    assert obstacle.startswith("the tag v1.2.0 exists")


def test_tagged_commit_gives_the_notes(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "tag", "v1.2.0")
    written = tmp_path / "notes.md"
    assert main(["--tagged", "--notes", str(written)], checkout) == 0
    assert written.read_text() == "- The first line.\n- The second line.\n"


def test_tag_of_another_commit_is_refused(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "tag", "v1.2.0")
    git(checkout, "commit", "--quiet", "--allow-empty", "-m", "Go on")
    written = tmp_path / "notes.md"
    assert main(["--tagged", "--notes", str(written)], checkout) == 1
    assert not written.exists()
