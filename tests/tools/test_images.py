"""The image is built and published: the commands to docker and the AWS CLI."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools.project import ROOT

REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

RECORDER = """#!/bin/sh
echo "$(basename "$0") $*" >>"$ASKED"
case "$*" in
*get-caller-identity*) echo 123456789012 ;;
*get-login-password*) echo secret ;;
*describe-images*) [ -n "$IMAGE_EXISTS" ] ;;
*describe-repositories*) [ -n "$REPOSITORY_EXISTS" ] ;;
"login --username"*) cat >/dev/null ;;
esac
"""


class Machine:
    """Programs docker and aws that only record their arguments."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "asked"
        self.calls.touch()
        self.environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "ASKED": str(self.calls),
            "AWS_REGION": "eu-west-1",
        }
        for name in ("docker", "aws"):
            (folder / name).write_text(RECORDER)
            (folder / name).chmod(0o755)

    def run(self, script: str, *arguments: str, **environment: str) -> str:
        """Run a script of docker/; return its output."""
        ended = subprocess.run(
            [str(ROOT / "docker" / script), *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return (ended.stdout + ended.stderr).splitlines()[-1]

    def commands(self, *words: str) -> list[str]:
        """Return the recorded commands that contain these words."""
        lines = self.calls.read_text().splitlines()
        return [line for line in lines if all(word in line for word in words)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_image_is_built_for_this_machine(machine: Machine) -> None:
    output = machine.run("build.sh")
    assert output.startswith("build: s3downloader:")
    [command] = machine.commands("docker buildx build")
    assert "--load" in command
    assert "--platform" not in command
    assert f"--tag {output.removeprefix('build: ')} " in command


def test_publishing_makes_a_repository_and_pushes_both_platforms(machine: Machine) -> None:
    output = machine.run("publish.sh")
    assert output.startswith(f"publish: published as {REGISTRY}/s3downloader:")
    assert machine.commands("aws ecr create-repository", "--repository-name s3downloader")
    assert machine.commands("docker login --username AWS --password-stdin", REGISTRY)
    [command] = machine.commands("docker buildx build")
    assert "--push --platform linux/amd64,linux/arm64" in command
    assert f"--tag {output.removeprefix('publish: published as ')} " in command


def test_an_image_that_is_there_is_not_published_again(machine: Machine) -> None:
    output = machine.run("publish.sh", IMAGE_EXISTS="yes")
    assert output.startswith(f"publish: unchanged since {REGISTRY}/s3downloader:")
    assert machine.commands("docker") == []


def test_a_repository_that_is_there_is_not_made(machine: Machine) -> None:
    machine.run("publish.sh", REPOSITORY_EXISTS="yes")
    assert machine.commands("create-repository") == []
    assert machine.commands("docker buildx build")


def test_a_dry_run_pushes_nothing(machine: Machine) -> None:
    output = machine.run("publish.sh", "--dry-run")
    assert output.startswith(f"publish: would be published as {REGISTRY}/s3downloader:")
    assert machine.commands("docker") == []
    assert machine.commands("create-repository") == []


def test_another_base_can_be_given(machine: Machine) -> None:
    machine.run("build.sh", PYTHON_IMAGE="python@sha256:0")
    assert machine.commands("--build-arg PYTHON_IMAGE=python@sha256:0")


@pytest.mark.parametrize("script", ["build.sh", "publish.sh"])
def test_an_unknown_option_is_refused(machine: Machine, script: str) -> None:
    assert "there is no option --quick" in machine.run(script, "--quick")
    assert machine.commands("docker") == []
