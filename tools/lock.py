"""Writes requirements.txt with pinned versions and hashes: `python -m tools.lock`.

The direct dependencies are those of pyproject.toml. The files are for Python 3.10 to 3.13 on
x86_64 and aarch64 with glibc. They have the hashes of the wheels for these, and markers where the
versions differ. Needs uv: `pip install uv`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packaging.utils import parse_wheel_filename

from .project import ROOT
from .wheels import PLATFORMS, PYTHONS

__all__ = ["CONSUMER_REQUIREMENTS", "REQUIREMENTS", "excerpt", "lock"]

REQUIREMENTS = ROOT / "components" / "aws.samples.S3Downloader" / "requirements.txt"
CONSUMER_REQUIREMENTS = ROOT / "examples" / "model_consumer" / "requirements.txt"
_CONSUMER_NEEDS = ("awscrt", "awsiotsdk")
_WHEEL = re.compile(r'/([^/"]+\.whl)".*sha256 = "([0-9a-f]{64})"')
_HEAD = "# Written by `python -m tools.lock`, from the dependencies in pyproject.toml.\n"


def lock(target: Path) -> None:
    """Resolve the dependencies, and write the requirements to `target`."""
    wanted = {digest for name, digest in _WHEEL.findall(_compile("pylock.toml")) if _serves(name)}
    lines = []
    for line in _compile("requirements.txt", "--no-annotate").splitlines():
        digest = line.strip().removeprefix("--hash=sha256:").removesuffix(" \\")
        if digest == line.strip().removesuffix(" \\") or digest in wanted:
            lines.append(line)
    text = "\n".join(lines) + "\n"
    # The last remaining line of each requirement must not end with a backslash.
    target.write_text(_HEAD + re.sub(r" \\\n(?! )", "\n", text))


def excerpt(source: Path, target: Path) -> None:
    """Write those requirements in `source` that the example consumer needs to `target`."""
    entries = re.split(r"\n(?! )", source.read_text().strip())
    wanted = [entry for entry in entries if entry.split("==")[0] in _CONSUMER_NEEDS]
    target.write_text(_HEAD + "\n".join(wanted) + "\n")


def _compile(form: str, *options: str) -> str:
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet"),
        *("--universal", "--python-version", "3.10", "--only-binary", ":all:"),
        *("--generate-hashes", "--no-header", "--no-emit-find-links", "--format", form, *options),
    ]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _serves(wheel: str) -> bool:
    """Return whether a wheel, by its file name, is for a supported machine and Python version."""
    *_, tags = parse_wheel_filename(wheel)
    pythons = {python.replace(".", "") for python in PYTHONS}
    return any(
        (tag.platform == "any" or _machine(tag.platform) in PLATFORMS)
        and (
            tag.interpreter in {"py3", *(f"cp{python}" for python in pythons)} or tag.abi == "abi3"
        )
        and not tag.abi.endswith("t")
        for tag in tags
    )


def _machine(platform: str) -> str:
    return platform.removeprefix("manylinux").lstrip("_0123456789")


if __name__ == "__main__":
    lock(REQUIREMENTS)
    excerpt(REQUIREMENTS, CONSUMER_REQUIREMENTS)
