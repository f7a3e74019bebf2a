"""The documentation matches the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from s3downloader.contract import decode_command
from s3downloader.contract.checks import meta_of
from s3downloader.contract.commands import COMMANDS, name_of
from s3downloader.contract.fields import (
    MODEL_META_LEVELS,
    Concurrency,
    DownloadId,
    KeepVersions,
    NumWorkers,
    ObjectKey,
)
from s3downloader.control.service import MAX_CONCURRENT
from s3downloader.core.errors import MEANINGS, ErrorCode
from s3downloader.core.records import TRANSITIONS
from s3downloader.core.settings import LIVE, Settings, load, parameter_name
from s3downloader.downloads.planning.checksum_manifest import MOST_BYTES
from s3downloader.engines.ranged.concurrency import REQUESTS
from s3downloader.messaging.mqtt.bus import RECEIVE_MAXIMUM

ROOT = Path(__file__).parents[1]
COMPONENT = ROOT / "components" / "aws.samples.S3Downloader"
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
CONTRACT = (ROOT / "docs" / "contract.md").read_text()
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]

SOURCES = [
    path for folder in ("components", "tests") for path in sorted((ROOT / folder).rglob("*.py"))
]

FENCED = re.compile(r"^ *```json\n(.*?)```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]*)(?:#([^)]*))?\)")
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def tables(text: str, heading: str) -> list[list[list[str]]]:
    """Return the rows of all tables in a section, without their heads."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in TABLE.findall(section)
    ]


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table in a section, without its head."""
    return tables(text, heading)[0]


def quoted(table: list[list[str]]) -> set[str]:
    """Return the texts that are formatted as code in the first cells of a table."""
    return {name for row in table for name in re.findall("`(.+?)`", row[0])}


def test_the_table_of_error_codes_is_the_code_s() -> None:
    expected = [[f"`{code.value}`", meaning] for code, meaning in MEANINGS.items()]
    assert rows(CONTRACT, "Error codes") == expected


def test_the_table_of_states_is_the_state_machine() -> None:
    documented = {
        source.strip("`"): {target.strip("` ") for target in targets.split(",")}
        for source, targets in rows(CONTRACT, "States")
    }
    assert documented == {
        source.value: {target.value for target in targets}
        for source, targets in TRANSITIONS.items()
        if targets
    }


def test_the_table_of_parameters_is_that_of_the_settings() -> None:
    documented = {row[0].strip("`"): row for row in rows(CONTRACT, "Configuration")}
    assert list(documented) == [parameter_name(name) for name in Settings.__struct_fields__]
    for field in Settings.__struct_fields__:
        name, default = parameter_name(field), getattr(Settings(), field)
        shown = ", ".join(default) if isinstance(default, tuple) else default
        assert documented[name][1] == (f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`")
        assert documented[name][3] == ("yes" if name in LIVE else "no")


def test_the_limits_are_those_of_the_code() -> None:
    of_commands, of_the_device = (dict(table) for table in tables(OPERATIONS, "Limits"))
    workers, parts = meta_of(NumWorkers).le, meta_of(Concurrency).le
    documented = of_commands["`numworkers`, `concurrency`"]
    assert documented == (
        f"1 to {workers:,}, 1 to {parts}; `ranged` uses at most {REQUESTS} requests per download"
    )
    for names, kind in {
        "`command_id`, `download_id`, `model_id`": DownloadId,
        "`bucket`, `key`, `destination`": ObjectKey,
    }.items():
        assert f"{meta_of(kind).max_length:,} bytes" in of_commands[names]
    assert f"{meta_of(KeepVersions).le}" in of_commands["`retry_count`, `keep_versions`"]
    assert f"{MODEL_META_LEVELS} levels" in of_commands["`model_meta`"]
    assert f"{MOST_BYTES >> 20} MiB" in of_commands["a `SHA256SUMS`"]
    assert of_the_device["commands carried out at once"] == f"{MAX_CONCURRENT}"
    unacknowledged = of_the_device["messages that the broker sends unacknowledged, in MQTT mode"]
    assert unacknowledged == f"{RECEIVE_MAXIMUM}"
    fixed = {
        "MaxPayloadBytes": of_the_device["message sent"],
        "ShadowMaxBytes": of_the_device["the shadow `models`"],
    }
    for parameter, text in fixed.items():
        least, most = re.findall(r"[\d,]{5,}", text)[:2]
        for value in (least, most):
            load(arguments={parameter: value.replace(",", "")}, environment={}, configuration={})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_json_examples_are_commands_that_decode(page: Path) -> None:
    for example in FENCED.findall(page.read_text()):
        message = json.loads(example)
        if "command" in message and "success" not in message:
            decode_command(example.encode(), max_bytes=100_000)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = HEADING.findall(CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(CODE.sub("", page.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_modules_named_in_a_page_exist(page: str) -> None:
    modules = {f"/{path.relative_to(ROOT)}" for path in SOURCES}
    named = re.findall(r"`((?:[\w.]+/)*\w+\.py)`", (ROOT / page).read_text())
    assert named
    for name in named:
        ending = f"/{name.removeprefix('../')}"
        assert any(module.endswith(ending) for module in modules), f"{page} names {name}"


def test_the_readme_has_every_command() -> None:
    assert quoted(rows(README, "A first command")) == {name_of(kind) for kind in COMMANDS}


def test_the_readme_s_parameters_are_those_of_the_settings() -> None:
    parameters = {parameter_name(name) for name in Settings.__struct_fields__}
    assert quoted(rows(README, "Configuration")) <= parameters


def test_the_readme_s_troubles_are_told_in_the_code() -> None:
    codes, lines = tables(README, "Troubleshooting")
    assert quoted(codes) <= {code.value for code in ErrorCode}
    program = "".join(path.read_text() for path in sorted(COMPONENT.rglob("*.py")))
    program = re.sub(r'"\n\s*f?"', "", program) + (COMPONENT / "install.sh").read_text()
    for line in quoted(lines):
        for words in line.split("…"):
            assert words.strip() in program, f"nothing says {line!r}"
