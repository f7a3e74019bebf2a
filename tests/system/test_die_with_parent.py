"""A child process ends with its parent, whenever the parent ends."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from s3downloader.system import die_with_parent as module
from s3downloader.system.die_with_parent import die_with_parent


@pytest.fixture(params=["setpriv", "Python"], autouse=True)
def launcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use each of the two launchers."""
    if request.param == "Python":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    module._launcher.cache_clear()
    yield
    module._launcher.cache_clear()


def test_a_command_runs_with_its_arguments() -> None:
    words = ["a b", "$HOME", "", "*"]
    printed = subprocess.run(
        die_with_parent("/usr/bin/printf", "%s|", *words), capture_output=True, check=True
    )
    assert printed.stdout.decode() == "a b|$HOME||*|"


def test_a_command_does_not_run_once_its_parent_is_dead() -> None:
    """The shell is another parent than this process, like the one that adopts orphans."""
    line = die_with_parent("/bin/echo", "it runs")
    another = subprocess.run(
        ["/bin/sh", "-c", '"$@"; echo ended', "sh", *line], capture_output=True, check=True
    )
    assert another.stdout == b"ended\n"
