"""`python -m tools.lock`: write a component's requirements.txt, every package pinned and hashed.

The direct dependencies are those of pyproject.toml. The result holds for Python 3.10 to 3.13 on
x86_64 and aarch64, by markers where the versions differ. Needs uv: `pip install uv`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .project import ROOT

__all__ = ["REQUIREMENTS", "lock"]

REQUIREMENTS = ROOT / "components" / "aws.samples.S3Downloader" / "requirements.txt"
_HEAD = "# Written by `python -m tools.lock`, from the dependencies in pyproject.toml.\n"


def lock(target: Path) -> None:
    """Resolve anew, and write what comes out to `target`."""
    resolved = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--quiet"),
            *("--universal", "--python-version", "3.10", "--only-binary", ":all:"),
            *("--generate-hashes", "--no-annotate", "--no-header", "--no-emit-find-links"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    target.write_text(_HEAD + resolved)


if __name__ == "__main__":
    lock(REQUIREMENTS)
