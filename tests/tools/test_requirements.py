"""requirements.txt has all dependencies of pyproject.toml, with hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import CONSUMER_REQUIREMENTS, REQUIREMENTS, excerpt
from tools.wheels import PLATFORMS, PYTHONS

TEXT = REQUIREMENTS.read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if not line.startswith("#")]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def locked(platform: str, python: str) -> dict[str, Requirement]:
    """Return the versions that are installed on a platform, by name."""
    registry_env = surroundings_of(platform, python)
    found: dict[str, Requirement] = {}
    for line in LINES:
        requirement = Requirement(line.split("--hash")[0])
        if requirement.marker is None or requirement.marker.evaluate(registry_env):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} twice for {platform} with Python {python}"
            found[name] = requirement
    return found


def surroundings_of(platform: str, python: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "platform_machine": platform,
        "sys_platform": "linux",
        "extra": "",
    }


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[0])
def test_every_line_is_pinned_and_hashed(line: str) -> None:
    assert re.match(r"[\w.-]+==[\w.]+ ", line)
    assert HASH.search(line)


def test_no_package_index_is_named() -> None:
    assert "://" not in TEXT
    assert "index" not in TEXT


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_ranges_of_the_project_are_kept(platform: str, python: str) -> None:
    found = locked(platform, python)
    for requirement in needs("s3downloader", surroundings_of(platform, python)):
        [pin] = found[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(pin.version), f"{requirement}, and {pin} is locked"


def needs(name: str, registry_env: dict[str, str]) -> Iterator[Requirement]:
    """Yield the requirements of a package, `s3downloader` or another, on a platform."""
    for text in requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(registry_env):
            yield requirement


def test_nothing_is_missing_that_the_packages_need() -> None:
    """pip installs without dependencies, so the file must have all of them."""
    registry_env = surroundings_of("x86_64", "3.11")
    found = locked("x86_64", "3.11")
    for name in found:
        for needed in needs(name, registry_env):
            assert canonicalize_name(needed.name) in found, f"{name} needs {needed}"


def test_the_example_s_are_the_downloader_s_and_enough(tmp_path: Path) -> None:
    excerpt(REQUIREMENTS, tmp_path / "requirements.txt")
    assert CONSUMER_REQUIREMENTS.read_text() == (tmp_path / "requirements.txt").read_text()
    names = re.findall(r"^([\w-]+)==", CONSUMER_REQUIREMENTS.read_text(), re.MULTILINE)
    for name in names:
        assert {needed.name for needed in needs(name, surroundings_of("x86_64", "3.11"))} <= {
            *names
        }
