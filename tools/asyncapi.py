"""Writes the AsyncAPI document of topics and messages: `python -m tools.asyncapi DIRECTORY`.

Source: the AsyncAPI specification 3.0.0, and its MQTT bindings 0.2.0.
"""

from __future__ import annotations

import argparse
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec
import yaml

from s3downloader import __version__
from s3downloader.contract.checks import meta_of
from s3downloader.contract.commands import Command

from .schema import FAMILIES

__all__ = ["FILE", "document", "write"]

FILE = "asyncapi.yaml"

_HEAD = "# Written by `make schema` from the code; tests compare the two.\n"

_CHANNELS = {
    "commands": (("commands",), "Commands to the device, one JSON object a message."),
    "responses": (
        ("responses", "events"),
        "One response a command, and the events that follow from it. A response comes before them.",
    ),
    "status": (("status",), "Periodic status, and notices of warnings and errors."),
}
"""The families of messages on each topic and a description, by the last level of the topic."""

_INFO = {
    "title": "S3Downloader",
    "version": __version__,
    "description": "Downloads large models from S3 to edge devices under MQTT command, seen from"
    " the device. contract.md beside this file says what the messages mean.",
    "license": {
        "name": "Apache License 2.0",
        "url": "https://www.apache.org/licenses/LICENSE-2.0",
    },
}


def document() -> dict[str, Any]:
    """Return the document. Payloads are references to the files in `schema/` beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "{broker}",
                "protocol": "mqtt",
                "protocolVersion": "5",
                "description": "AWS IoT Core, behind a Greengrass nucleus or not, or any broker.",
                "variables": {"broker": {"default": "localhost:1883"}},
            }
        },
        "channels": {name: _channel(name) for name in _CHANNELS},
        "operations": {
            "receiveCommand": {
                **_operation("receive", "commands", "commands", qos=1),
                "reply": _channel_messages("responses", "responses"),
            },
            "sendEvent": _operation("send", "responses", "events", qos=1),
            "sendStatus": _operation("send", "status", "status", qos=0),
        },
        "components": {
            "parameters": {
                "prefix": {
                    "default": "s3downloader",
                    "description": "TopicPrefix, one topic level or more.",
                },
                "thing": {"description": "The name of the thing."},
            }
        },
    }


def write(directory: Path) -> None:
    """Write the document to its file in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=98)
    directory.joinpath(FILE).write_text(f"{_HEAD}{text}")


def _channel(name: str) -> dict[str, Any]:
    families, description = _CHANNELS[name]
    return {
        "address": f"{{prefix}}/{{thing}}/{name}",
        "description": description,
        "parameters": {
            parameter: {"$ref": f"#/components/parameters/{parameter}"}
            for parameter in ("prefix", "thing")
        },
        "messages": {
            kind.__name__: _message(family, kind)
            for family in families
            for kind in FAMILIES[family][0]
        },
    }


def _message(family: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": str(kind.__struct_config__.tag or kind.__name__),
        "summary": " ".join(cleandoc(kind.__doc__ or "").partition("\n\n")[0].split()),
        "payload": {"$ref": f"./schema/{family}.json#/$defs/{kind.__name__}"},
    }
    if any(field.name == "command_id" for field in msgspec.structs.fields(kind)):
        message["correlationId"] = {"location": "$message.payload#/command_id"}
    if issubclass(kind, Command):
        message["examples"] = [{"payload": _example(kind)}]
    return message


def _example(kind: type[Command]) -> dict[str, Any]:
    """Return an example of a command, with its required fields."""
    example: dict[str, Any] = {"command": kind.__struct_config__.tag}
    for field in msgspec.structs.fields(kind):
        if field.required:
            example[field.name] = (meta_of(field.type).examples or [None])[0]
    return example


def _operation(action: str, channel: str, family: str, *, qos: int) -> dict[str, Any]:
    return {
        "action": action,
        **_channel_messages(channel, family),
        "bindings": {"mqtt": {"qos": qos, "bindingVersion": "0.2.0"}},
    }


def _channel_messages(channel: str, family: str) -> dict[str, Any]:
    """Return references to a channel, and to its messages of a family."""
    kinds = FAMILIES[family][0]
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{k.__name__}"} for k in kinds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where to write the file")
    write(parser.parse_args().directory)


if __name__ == "__main__":
    main()
