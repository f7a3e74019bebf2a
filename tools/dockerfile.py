"""Builds the stages of a Dockerfile in folders, without a container engine."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Image", "carry_out"]


@dataclass
class Image:
    """The result of a stage: its root folder, and the settings of the image."""

    root: Path
    user: str = "0:0"
    workdir: Path = Path("/")
    entrypoint: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"


def carry_out(dockerfile: Path, *, context: Path, base: Path, stages: Path) -> Image:
    """Carry out the instructions of a Dockerfile; return the result of the last stage.

    It knows the instructions that the project's Dockerfile uses. The root folder of each stage is
    in `stages`, and starts as a copy of the root folder `base`. Raises ValueError for an unknown
    instruction, and CalledProcessError if a RUN fails. Needs root.
    """
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    done: dict[str, Image] = {}
    image = Image(base)
    for line in text.replace("\\\n", " ").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "last"
            image = done[name] = Image(stages / name)
            subprocess.run(["cp", "-a", str(base), str(image.root)], check=True)
        elif instruction:
            _apply(image, instruction, rest, context=context, done=done)
    return image


def _apply(
    image: Image, instruction: str, rest: str, *, context: Path, done: Mapping[str, Image]
) -> None:
    if instruction == "RUN":
        command = ["chroot", f"--userspec={image.user}", str(image.root), "/bin/sh", "-c", rest]
        subprocess.run(command, check=True)
    elif instruction == "COPY":
        _copy(image, shlex.split(rest), context=context, done=done)
    elif instruction == "USER":
        image.user = rest
    elif instruction == "WORKDIR":
        image.workdir = Path(rest)
        _inside(image.root, rest).mkdir(parents=True, exist_ok=True)
    elif instruction == "ENTRYPOINT":
        image.entrypoint = json.loads(rest)
    elif instruction == "VOLUME":
        image.volumes = json.loads(rest)
    elif instruction == "STOPSIGNAL":
        image.stop_signal = rest
    elif instruction != "ARG":
        raise ValueError(f"the instruction {instruction} is not supported; add it to _apply")


def _copy(image: Image, words: list[str], *, context: Path, done: Mapping[str, Image]) -> None:
    left_out = shutil.ignore_patterns("__pycache__")  # as in Dockerfile.dockerignore
    sources = [context / word for word in words[:-1]]
    if words[0].startswith("--from="):
        left_out = shutil.ignore_patterns()
        root = done[words[0].removeprefix("--from=")].root
        sources = [_inside(root, word) for word in words[1:-1]]
    target = _inside(image.root, words[-1])
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=left_out)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
