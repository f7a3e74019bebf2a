"""The house keeps its floors: a module imports only from floors below its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

COMPONENT = Path(__file__).parents[1] / "components" / "aws.samples.S3Downloader"
PACKAGE = COMPONENT / "s3downloader"

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"

FLOORS = {
    room: int(floor)
    for floor, rooms in re.findall(r"^\| (\d) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    for room in re.findall(r"`(\w+)`", rooms)
}
"""The floor of each room, as the page says it."""

SIDE_BY_SIDE = {
    ("sources", "listing"),
    ("sources", "heads"),
    ("sources", "s3http"),
    ("listing", "s3http"),
    ("heads", "s3http"),
    ("heads", "credentials"),
    ("s3http", "credentials"),
    ("credentials", "container"),
    ("records", "errors"),
    ("faults", "errors"),
    ("answers", "errors"),
    ("answers", "validators"),
    ("refusals", "answers"),
    ("refusals", "errors"),
    ("refusals", "faults"),
    ("refusals", "s3xml"),
    ("throttle", "clock"),
    ("throttle", "aio"),
    ("patience", "errors"),
}
"""Neighbours on one floor of which the first builds on the second."""


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path) -> Iterator[str]:
    """The dotted names of the package's own modules that a module imports."""
    package = ["s3downloader", *module.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in MODULES} - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_room_imports_only_from_floors_below(module: Path) -> None:
    room = room_of(module)
    for name in imported(module):
        parts = name.split(".")
        if parts[0] != "s3downloader" or len(parts) < 2 or parts[1] not in FLOORS:
            continue
        other = parts[1]
        below = FLOORS[other] < FLOORS.get(room, 0)
        assert other == room or below or (room, other) in SIDE_BY_SIDE, f"{room} imports {name}"


def test_only_main_and_the_connections_know_which_adapters_and_engines_are_in_use() -> None:
    adapters = {"messaging.mqtt", "messaging.greengrass", "messaging.ipc", "engines.s5cmd"}
    for module in MODULES:
        if room_of(module) in ("messaging", "engines", "connections"):
            continue
        for name in imported(module):
            used = {a for a in adapters if name.startswith(f"s3downloader.{a}.")}
            assert not used, f"{module} uses {used}"


def test_boto3_is_loaded_for_its_credentials_alone() -> None:
    loads = re.compile(r"^\s*(from|import) boto(3|core)\b", re.MULTILINE)
    assert {room_of(m) for m in MODULES if loads.search(m.read_text())} == {"credentials"}


def test_main_only_wires() -> None:
    assert len((COMPONENT / "main.py").read_text().splitlines()) < 60


def test_the_examples_stand_alone() -> None:
    examples = sorted((COMPONENT.parents[1] / "examples").rglob("*.py"))
    assert examples
    for module in examples:
        assert not re.search(r"^\s*(from|import) s3downloader", module.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "module",
    [
        path
        for folder in ("components", "examples", "sandbox", "tests", "benchmarks", "tools")
        for path in sorted((COMPONENT.parents[1] / folder).rglob("*.py"))
    ],
    ids=lambda path: str(path.relative_to(COMPONENT.parents[1])),
)
def test_no_module_is_longer_than_a_room_should_be(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 500
