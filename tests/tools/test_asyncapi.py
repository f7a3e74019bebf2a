"""The AsyncAPI document matches the code, and is complete.

Source of the structure: the AsyncAPI specification 3.0.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from s3downloader.contract import decode_command
from s3downloader.contract.commands import COMMANDS, name_of
from s3downloader.core.settings import Settings
from tools.asyncapi import FILE, write
from tools.schema import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / FILE).read_text())

TEXT = {"type": "string", "minLength": 1}
REFERENCE = {
    "type": "object",
    "properties": {"$ref": TEXT},
    "required": ["$ref"],
    "additionalProperties": False,
}
REFERENCES = {"type": "array", "items": REFERENCE, "minItems": 1}


def record(required: str, optional: str = "", **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with exactly these keys; values are strings by default."""
    names = [*required.split(), *optional.split()]
    return {
        "type": "object",
        "properties": {name: properties.get(name, TEXT) for name in names},
        "required": required.split(),
        "additionalProperties": False,
    }


def named(values: Any) -> dict[str, Any]:
    """Return the schema of an object whose values have this schema."""
    pattern = r"^[A-Za-z0-9._-]+$"
    return {"type": "object", "patternProperties": {pattern: values}, "additionalProperties": False}


MESSAGE = record(
    "name summary payload",
    "correlationId examples",
    payload=REFERENCE,
    correlationId=record("location"),
    examples={"type": "array", "items": record("payload", payload={"type": "object"})},
)
OPERATION = record(
    "action channel messages bindings",
    "reply",
    action={"enum": ["send", "receive"]},
    channel=REFERENCE,
    messages=REFERENCES,
    reply=record("channel messages", channel=REFERENCE, messages=REFERENCES),
    bindings=record("mqtt", mqtt=record("qos bindingVersion", qos={"enum": [0, 1, 2]})),
)
STRUCTURE = record(
    "asyncapi info channels operations components defaultContentType servers",
    asyncapi={"const": "3.0.0"},
    info=record(
        "title version description license",
        license=record("name url"),
    ),
    servers=named(
        record(
            "host protocol protocolVersion description variables",
            variables=named(record("default")),
        )
    ),
    channels=named(
        record(
            "address description parameters messages",
            parameters=named(REFERENCE),
            messages=named(MESSAGE),
        )
    ),
    operations=named(OPERATION),
    components=record("parameters", parameters=named(record("description", "default"))),
)


def references(value: Any) -> Iterator[str]:
    """Yield all references in the document."""
    if isinstance(value, dict):
        if isinstance(target := value.get("$ref"), str):
            yield target
        for child in value.values():
            yield from references(child)
    elif isinstance(value, list):
        for child in value:
            yield from references(child)


def test_the_committed_document_is_current(tmp_path: Path) -> None:
    write(tmp_path)
    fresh = (tmp_path / FILE).read_text()
    assert (DOCS / FILE).read_text() == fresh, "run `make schema`"


def test_its_structure_is_that_of_the_specification() -> None:
    Draft202012Validator(STRUCTURE).validate(DOCUMENT)


@pytest.mark.parametrize("reference", sorted(set(references(DOCUMENT))))
def test_a_reference_leads_somewhere(reference: str) -> None:
    file, _, pointer = reference.partition("#/")
    found = json.loads((DOCS / file).read_text()) if file else DOCUMENT
    for name in pointer.split("/"):
        found = found[name]
    assert found


def test_each_parameter_of_an_address_is_told() -> None:
    for channel in DOCUMENT["channels"].values():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])


def test_each_message_is_on_one_channel_and_in_its_operations() -> None:
    there = [name for channel in DOCUMENT["channels"].values() for name in channel["messages"]]
    assert sorted(there) == sorted(k.__name__ for kinds, _ in FAMILIES.values() for k in kinds)
    operations = list(references(DOCUMENT["operations"]))
    for name, channel in DOCUMENT["channels"].items():
        for message in channel["messages"]:
            assert f"#/channels/{name}/messages/{message}" in operations


def test_the_prefix_is_that_of_the_settings() -> None:
    assert DOCUMENT["components"]["parameters"]["prefix"]["default"] == Settings().topic_prefix


@pytest.mark.parametrize("kind", COMMANDS, ids=name_of)
def test_an_example_is_a_command(kind: type) -> None:
    (example,) = DOCUMENT["channels"]["commands"]["messages"][kind.__name__]["examples"]
    payload = msgspec.json.encode(example["payload"])
    assert type(decode_command(payload, max_bytes=7_000)) is kind
