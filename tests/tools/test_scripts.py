"""The shell scripts and the Dockerfiles pass their linters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.project import ROOT

PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
FOLDERS = (".", ".ci", "components/*", "examples/*", "docker", "sandbox")
SCRIPTS = sorted({script for folder in FOLDERS for script in ROOT.glob(f"{folder}/*.sh")})
BASH = [script for script in SCRIPTS if "bash" in script.read_text().splitlines()[0]]


def linter(name: str) -> str:
    """Return the path of a linter; skip the test if its package has none for this machine."""
    found = shutil.which(name, path=PROGRAMS)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    command = [linter("shellcheck"), "--external-sources", str(script)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("script", BASH, ids=lambda script: script.name)
def test_bash_is_strict(script: Path) -> None:
    assert "\nset -euo pipefail\n" in script.read_text()


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("docker/*Dockerfile")))
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    command = [linter("hadolint"), "--no-color", str(dockerfile)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
