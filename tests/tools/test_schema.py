from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from s3downloader.contract import decode_command, encode
from s3downloader.contract.checks import meta_of
from s3downloader.contract.commands import COMMANDS, Command, List, name_of
from s3downloader.contract.names import spellings
from s3downloader.contract.responses import Message
from s3downloader.core.errors import DownloaderError
from tools.schema import FAMILIES, schemas, write

from ..contract.examples import EXAMPLES
from ..contract.messages import QUICK, anything

DOCS = Path(__file__).parents[2] / "docs" / "schema"

_VALIDATORS = {name: Draft202012Validator(schema) for name, schema in schemas().items()}


def test_the_committed_schemas_are_current(tmp_path: Path) -> None:
    write(tmp_path)
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in DOCS.iterdir()}
    assert committed == fresh, "run `make schema`"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_schema_is_valid(family: str) -> None:
    Draft202012Validator.check_schema(schemas()[family])


@pytest.mark.parametrize("payload", [payload for payload, _ in EXAMPLES])
def test_examples_are_valid(payload: bytes) -> None:
    _VALIDATORS["commands"].validate(msgspec.json.decode(payload))


def example_of(kind: type[Command], spelling: int) -> dict[str, Any]:
    """Return a command with all its fields, each in its nth spelling if it has so many."""
    example: dict[str, Any] = {"command": spellings(name_of(kind))[-spelling]}
    for field in msgspec.structs.fields(kind):
        examples = meta_of(field.type).examples
        assert examples
        example[spellings(field.name)[-spelling]] = examples[0]
    if kind is List:
        example[spellings("list_type")[-spelling]] = "s3"
    return example


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("spelling", [0, 1], ids=["snake_case", "camelCase"])
def test_every_field_in_both_spellings(kind: type[Command], spelling: int) -> None:
    example = example_of(kind, spelling)
    _VALIDATORS["commands"].validate(example)
    assert type(decode_command(msgspec.json.encode(example), max_bytes=7_000)) is kind


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"command": "puase"},
        {"command": "pause"},
        {"command": "pause", "download_id": "a/b"},
        {"command": "pause", "download_id": "a", "bucket": "abc"},
        {"command": "model_add", "model_meta": {}},
        {"command": "download", "bucket": "abc", "key": "k", "numWorkers": 0},
        {"command": "list", "list_type": "s4"},
    ],
)
def test_what_is_refused_is_invalid(payload: dict[str, Any]) -> None:
    assert not _VALIDATORS["commands"].is_valid(payload)
    with pytest.raises(DownloaderError):
        decode_command(msgspec.json.encode(payload), max_bytes=7_000)


@pytest.mark.parametrize(
    ("family", "kind"),
    [(name, kind) for name in ("responses", "events", "status") for kind in FAMILIES[name][0]],
)
def test_what_is_sent_is_valid(family: str, kind: type[Message]) -> None:
    definition = {**schemas()[family], "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"}]}
    validator = Draft202012Validator(definition)

    @QUICK
    @given(st.data())
    def check(data: st.DataObject) -> None:
        message = data.draw(anything(kind))
        validator.validate(msgspec.json.decode(encode(message, 7_000)))

    check()
