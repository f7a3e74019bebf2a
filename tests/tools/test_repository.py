"""Files that other programs read: workflows, forms, hooks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.project import ROOT

GITHUB = ROOT / ".github"
CHOOSER = GITHUB / "ISSUE_TEMPLATE" / "config.yml"
FORMS = sorted({*CHOOSER.parent.glob("*.yml")} - {CHOOSER})
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = [
    *((file, "vendor.github-workflows") for file in WORKFLOWS),
    *((file, "vendor.github-issue-forms") for file in FORMS),
    (CHOOSER, "vendor.github-issue-config"),
    (GITHUB / "dependabot.yml", "vendor.dependabot"),
]


@pytest.mark.parametrize(
    ("file", "schema"), SCHEMAS, ids=lambda value: getattr(value, "name", value)
)
def test_file_fits_its_schema(file: Path, schema: str) -> None:
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [str(program), "--builtin-schema", schema, str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_workflow_tests_every_python() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    lowest, above = re.findall(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', project)[0]
    jobs = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]
    wanted = [f"3.{minor}" for minor in range(int(lowest), int(above))]
    assert jobs["test"]["strategy"]["matrix"]["python"] == wanted


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflow_runs_targets_of_the_makefile(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = set(re.findall(r"\bmake ([a-z]+)", workflow.read_text()))
    assert wanted
    assert wanted <= targets


@pytest.mark.parametrize(("length", "fits"), [(72, True), (73, False)])
def test_hook_bounds_the_subject(length: int, fits: bool) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    [subject] = [hook for hook in hooks if hook["id"] == "subject"]
    message = "x" * length + "\n\n" + "A body may be longer. " * 9
    how = re.MULTILINE | re.DOTALL  # as pre-commit searches
    assert (re.search(subject["entry"], message, how) is None) is fits


def test_hooks_run_what_the_check_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    for program in {Path(hook["entry"].split()[0]).name for hook in hooks} & {"ruff", "mypy"}:
        assert f"$(BIN)/{program}" in makefile
        assert os.access(Path(sys.executable).parent / program, os.X_OK)
