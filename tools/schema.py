"""Writes the JSON Schema (2020-12) of every message: `python -m tools.schema DIRECTORY`."""

from __future__ import annotations

import argparse
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from s3downloader.contract.commands import COMMANDS
from s3downloader.contract.names import spellings
from s3downloader.contract.responses import EVENTS, RESPONSES, STATUS

__all__ = ["FAMILIES", "schemas", "write"]

_Family = tuple[type[msgspec.Struct], ...]

FAMILIES: dict[str, tuple[_Family, str]] = {
    "commands": (COMMANDS, "A message to the topic of the commands."),
    "responses": (RESPONSES, "The message to the topic of the responses that answers a command."),
    "events": (EVENTS, "A message to the topic of the responses about what followed a command."),
    "status": (STATUS, "A message to the topic of the status."),
}
"""The types of each family of messages and a description, by the name of its file."""

_SPELLINGS = (
    " Every name may be given in snake_case or in camelCase; a name given in both spellings must"
    " have the same value."
)
_UNITS = (
    " Times are seconds since the epoch and durations seconds, both with a fraction; sizes are"
    " bytes. A field that does not apply is left out. truncated is true where something was left"
    " out or shortened so that the message fits into MaxPayloadBytes."
)


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each family."""
    return {name: _schema(name, *family) for name, family in FAMILIES.items()}


def write(directory: Path) -> None:
    """Write the schema of each family to its file in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        text = msgspec.json.format(msgspec.json.encode(schema), indent=2)
        directory.joinpath(f"{name}.json").write_bytes(text + b"\n")


def _schema(name: str, types: _Family, description: str) -> dict[str, Any]:
    references, definitions = msgspec.json.schema_components(types)
    for definition in definitions.values():
        definition["description"] = cleandoc(definition["description"])
    for kind in types:
        if types is COMMANDS:
            _add_spellings(definitions[kind.__name__])
        else:
            _require_what_is_sent(kind, definitions[kind.__name__])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name.capitalize(),
        "description": description + (_SPELLINGS if types is COMMANDS else _UNITS),
        "anyOf": list(references),
        "$defs": definitions,
    }


def _require_what_is_sent(kind: type[msgspec.Struct], message: dict[str, Any]) -> None:
    """Require all fields that are always sent: those whose default is not UNSET."""
    left_out = {f.name for f in msgspec.structs.fields(kind) if f.default is msgspec.UNSET}
    message["required"] = [name for name in message["properties"] if name not in left_out]


def _add_spellings(command: dict[str, Any]) -> None:
    """Change the schema of a command so that it accepts all spellings of names."""
    properties = command["properties"]
    (tag,) = properties["command"]["enum"]
    properties["command"]["enum"] = spellings(tag)
    for name in list(properties):
        for other in spellings(name)[1:]:
            properties[other] = {"$ref": f"#/$defs/{command['title']}/properties/{name}"}
    required = [spellings(name) for name in command["required"]]
    command["required"] = [names[0] for names in required if len(names) == 1]
    alternatives = [names for names in required if len(names) > 1]
    if alternatives:
        command["allOf"] = [
            {"anyOf": [{"required": [name]} for name in names]} for names in alternatives
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where to write the files")
    write(parser.parse_args().directory)


if __name__ == "__main__":
    main()
