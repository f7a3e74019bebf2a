"""The install script of the component."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.device import SOURCE

TOOLS = ("cat", "dirname", "mkdir", "mv", "rm", "sync", "uname")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact whose requirements cannot be downloaded."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    shutil.copy(SOURCE / "install.sh", folder)
    (folder / "requirements.txt").write_text(f"nothing==1.0 --hash=sha256:{64 * '0'}\n")
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with common programs, but without Python."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def add_python(programs: Path, name: str, body: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{body}\n")
    (programs / name).chmod(0o755)


def install(artifact: Path, work: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(artifact / "install.sh"), str(work)],
        env={"PATH": str(programs), "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_python_it_says_what_is_needed(
    artifact: Path, programs: Path, tmp_path: Path
) -> None:
    ended = install(artifact, tmp_path / "work", programs)
    assert ended.returncode == 1
    assert "Python 3.10 to 3.13 is needed, and there is no python3" in ended.stderr


def test_an_old_python_is_named(artifact: Path, programs: Path, tmp_path: Path) -> None:
    add_python(programs, "python3", '[ "$1" = --version ] && echo Python 3.8.10 || exit 1')
    ended = install(artifact, tmp_path / "work", programs)
    assert ended.returncode == 1
    assert "needed, and there is Python 3.8.10; install one" in ended.stderr


def test_a_newer_python_beside_the_old_one_is_found(
    artifact: Path, programs: Path, tmp_path: Path
) -> None:
    add_python(programs, "python3", '[ "$1" = --version ] && echo Python 3.8.10 || exit 1')
    add_python(programs, "python3.12", f'exec {sys.executable} "$@"')
    ended = install(artifact, tmp_path / "work", programs)
    assert "the requirements could not be installed for Python" in ended.stderr


def test_a_python_without_pip_of_any_kind_is_told(
    artifact: Path, programs: Path, tmp_path: Path
) -> None:
    body = f"""case $* in
"-m pip "*) exit 1 ;;
"-m venv /"*) exit 1 ;;
esac
exec {sys.executable} "$@\""""
    add_python(programs, "python3", body)
    ended = install(artifact, tmp_path / "work", programs)
    assert ended.returncode == 1
    assert "python3 has no pip; install python3-pip or python3-venv, or deploy" in ended.stderr


def test_a_failure_leaves_what_is_installed_and_nothing_else(
    artifact: Path, programs: Path, tmp_path: Path
) -> None:
    add_python(programs, "python3", f'exec {sys.executable} "$@"')
    old = tmp_path / "work" / "venv" / "old"
    old.mkdir(parents=True)
    ended = install(artifact, tmp_path / "work", programs)
    assert ended.returncode == 1
    assert "could not be installed for Python" in ended.stderr
    assert "from the package index" in ended.stderr
    assert old.is_dir()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["venv"]


def test_wheels_without_pip_are_told(artifact: Path, programs: Path, tmp_path: Path) -> None:
    (artifact / "wheels").mkdir()
    (artifact / "wheels" / "platforms.txt").write_text("x86_64 with Python 3.11\n")
    add_python(programs, "python3", f'exec {sys.executable} "$@"')
    ended = install(artifact, tmp_path / "work", programs)
    assert "wheels has no pip; build it again with --vendor" in ended.stderr


def test_the_work_folder_must_be_given(artifact: Path) -> None:
    ended = subprocess.run(
        ["/bin/sh", str(artifact / "install.sh")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "give the work folder" in ended.stderr
