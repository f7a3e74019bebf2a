"""Modules import only from lower layers, as the table in docs/architecture.md says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

COMPONENT = Path(__file__).parents[1] / "components" / "aws.samples.S3Downloader"
PACKAGE = COMPONENT / "s3downloader"

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"

LAYERS = {
    package: int(layer)
    for layer, packages in re.findall(r"^\| (\d) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    for package in re.findall(r"`(\w+)`", packages.partition(", with ")[0])
}
"""The layer of each package, from the page."""


def package_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(module: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(module.relative_to(COMPONENT).with_suffix("").parts).removesuffix(".__init__")


def imported(module: Path) -> Iterator[str]:
    """Yield the dotted names of the package's modules that a module imports."""
    package = [*module.relative_to(COMPONENT).parts[:-1]]
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module in MODULES} - {"__init__"} == set(LAYERS)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_module_imports_only_from_layers_below(module: Path) -> None:
    package = package_of(module)
    for name in imported(module):
        parts = name.split(".")
        if parts[0] != "s3downloader" or len(parts) < 2 or parts[1] not in LAYERS:
            continue
        other = parts[1]
        assert other == package or LAYERS[other] < LAYERS[package], f"{package} imports {name}"


def test_a_device_runs_every_module() -> None:
    """What only developers use is in tools/ or tests/, and needs no space on a device."""
    modules = {dotted(path): path for path in MODULES}
    reached: set[str] = set()
    todo = [COMPONENT / "main.py"]
    while todo:
        for name in imported(todo.pop()):
            parts = name.split(".")
            loaded = {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & modules.keys()
            todo += [modules[module] for module in loaded - reached]
            reached |= loaded
    assert modules.keys() - reached == set()


def test_only_main_and_connections_know_adapters_and_engines() -> None:
    adapters = {"messaging.mqtt", "messaging.greengrass", "engines.s5cmd"}
    for module in MODULES:
        if package_of(module) in ("messaging", "engines") or module.stem == "connections":
            continue
        for name in imported(module):
            used = {a for a in adapters if name.startswith(f"s3downloader.{a}.")}
            assert not used, f"{module} uses {used}"


def users_of(*attributes: str) -> set[str]:
    """Return the modules that use one of these attributes."""
    return {
        module.stem
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in attributes
    }


def test_only_the_state_machine_changes_a_record() -> None:
    for writer in ("set_record", "enter_state", "count_from"):
        assert users_of(writer) == {"state_machine"}
    assert users_of("_download") & {m.stem for m in (PACKAGE / "downloads").rglob("*.py")} == {
        "active_download"
    }


def test_only_what_was_recovered_is_planned() -> None:
    """A Stager needs the session that an engine's recover returns."""
    makes = re.compile(r"\bmake_plan\(")
    assert {m.stem for m in MODULES if makes.search(m.read_text())} == {"plan", "stager"}


def test_only_the_transport_knows_how_requests_are_carried() -> None:
    client = re.compile(r"^\s*(from|import) (http\.client|ssl|urllib\.request)\b", re.MULTILINE)
    users = {str(m.relative_to(PACKAGE)) for m in MODULES if client.search(m.read_text())}
    others = {user for user in users if not user.startswith("sources/http/")}
    assert others == {"sources/s3/container_credentials.py"}  # from the device itself


def test_boto3_is_loaded_for_its_credentials_alone() -> None:
    loads = re.compile(r"^\s*(from|import) boto(3|core)\b", re.MULTILINE)
    assert {m.stem for m in MODULES if loads.search(m.read_text())} == {"credentials"}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_module_logs_under_its_own_name(module: Path) -> None:
    named = re.compile(r"^\s*(\S+) = logging\.getLogger\((.*)\)", re.MULTILINE)
    loggers = named.findall(module.read_text())
    is_root = module == PACKAGE / "core" / "logs.py"
    assert loggers in ([], [("root", "")] if is_root else [("log", "__name__")])


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
def test_no_module_is_too_long(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 500


LONGEST_TEST_NAME = 60

TEST_FILES = sorted(Path(__file__).parent.rglob("test_*.py"))


@pytest.mark.parametrize(
    "module", TEST_FILES, ids=lambda path: str(path.relative_to(COMPONENT.parents[1]))
)
def test_no_test_has_a_long_name(module: Path) -> None:
    names = [
        node.name
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    ]
    assert names
    assert [name for name in names if len(name) > LONGEST_TEST_NAME] == []
