"""What the documentation says is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from s3downloader.contract import decode_command
from s3downloader.errors import MEANINGS
from s3downloader.records import TRANSITIONS
from s3downloader.settings import LIVE, Settings, parameter_name

ROOT = Path(__file__).parents[1]
CONTRACT = (ROOT / "docs" / "contract.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]

FENCED = re.compile(r"```json\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")


def rows(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_error_codes_is_the_code_s() -> None:
    expected = [[f"`{code.value}`", meaning] for code, meaning in MEANINGS.items()]
    assert rows(CONTRACT, "Error codes") == expected


def test_the_table_of_states_is_the_state_machine() -> None:
    told = {
        source.strip("`"): {target.strip("` ") for target in targets.split(",")}
        for source, targets in rows(CONTRACT, "States")
    }
    assert told == {
        source.value: {target.value for target in targets}
        for source, targets in TRANSITIONS.items()
        if targets
    }


def test_the_table_of_parameters_is_that_of_the_settings() -> None:
    told = {row[0].strip("`"): row for row in rows(CONTRACT, "Configuration")}
    assert list(told) == [parameter_name(name) for name in Settings.__struct_fields__]
    for field in Settings.__struct_fields__:
        name, default = parameter_name(field), getattr(Settings(), field)
        shown = ", ".join(default) if isinstance(default, tuple) else default
        assert told[name][1] == (f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`")
        assert told[name][3] == ("yes" if name in LIVE else "no")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_json_examples_are_commands_that_decode(page: Path) -> None:
    for example in FENCED.findall(page.read_text()):
        message = json.loads(example)
        if "command" in message and "success" not in message:
            decode_command(example.encode(), max_bytes=100_000)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
