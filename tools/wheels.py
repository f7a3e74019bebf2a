"""Downloads wheels for devices without a package index: the requirements, and pip itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from .project import ProjectError

__all__ = ["PLATFORMS", "PYTHONS", "fetch"]

PLATFORMS = ("x86_64", "aarch64")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_GLIBC = range(17, 29)
"""The tags manylinux_2_17 to manylinux_2_28 (glibc of Debian 10). pip needs each one by name."""


_PIP = "pip==25.3 --hash=sha256:9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd\n"
"""pip installs the wheels on the device. It is not kept there, so it is not a requirement."""


def fetch(
    requirements: Path, folder: Path, *, platforms: Iterable[str], pythons: Iterable[str]
) -> None:
    """Download the wheels, and that of pip, for each pair of platform and Python to `folder`.

    Also writes `platforms.txt`, which names the pairs, for messages on the device. Raises
    ProjectError if a wheel is missing or does not match the hash in the requirements.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [*product(platforms, pythons)]
    for platform, python in pairs:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as selected:
            selected.write("".join(_selected(requirements.read_text(), platform, python)))
            selected.write(_PIP)
            selected.flush()
            _download(folder, platform, python, "--require-hashes", "--requirement", selected.name)
    (folder / "platforms.txt").write_text(
        ", ".join(f"{platform} with Python {python}" for platform, python in pairs) + "\n"
    )


def _download(folder: Path, platform: str, python: str, *what: str) -> None:
    tags = [f"--platform=manylinux_2_{minor}_{platform}" for minor in _GLIBC]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--only-binary", ":all:", "--no-deps", "--dest", str(folder)),
        *(*tags, f"--platform=manylinux2014_{platform}", "--implementation=cp"),
        *(f"--python-version={python}", f"--abi=cp{python.replace('.', '')}"),
        *("--abi=abi3", "--abi=none", *what),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise ProjectError(
            f"pip cannot download the wheels for {platform} with Python {python}:\n{ended.stderr}"
        )


def _selected(requirements: str, platform: str, python: str) -> Iterator[str]:
    """Yield the requirements for a platform and Python version, without their markers.

    pip would evaluate the markers for the Python that it runs on.
    """
    try:
        from packaging.markers import Marker
    except ImportError as error:
        raise ProjectError("--vendor needs the package packaging: pip install packaging") from error
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.99",
        "platform_machine": platform,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for line in requirements.replace("\\\n", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        requirement, *hashes = line.split(" --hash=")
        name, _, marker = requirement.partition(";")
        if not marker or Marker(marker.strip()).evaluate(environment):
            yield " --hash=".join([name.strip(), *(h.strip() for h in hashes)]) + "\n"
