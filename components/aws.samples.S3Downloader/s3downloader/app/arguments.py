"""Parses the command line."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__

__all__ = ["Arguments", "parse"]

_SOCKET = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
_PARAMETERS = {
    "--download-dir": ("DownloadDir", "DIR", "destination of downloads that name none"),
    "--topic-prefix": ("TopicPrefix", "P", "the first levels of all topics"),
    "--process-interval": (
        "ProcessInterval",
        "S",
        "seconds between status messages while a download is active",
    ),
    "--idle-process-interval": ("IdleProcessInterval", "S", "the same while idle"),
    "--state-dir": ("StateDir", "DIR", "directory of the durable state"),
    "--log-level": ("LogLevel", "L", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
}


class Arguments(argparse.Namespace):
    """The parsed command line. `parameters` maps the configuration's names to values or None."""

    thing_name: str
    messaging: str
    mqtt_url: str
    ca: Path | None
    cert: Path | None
    key: Path | None
    config: Path | None
    parameters: Mapping[str, Any]


def parse(given: Sequence[str], environment: Mapping[str, str]) -> Arguments:
    """Return the parsed command line. If it is wrong, exit with status 2 and an error on stderr."""
    parser = argparse.ArgumentParser(
        prog="main.py", description="Downloads large models from S3 under MQTT command."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--thing-name", metavar="NAME", default=environment.get("AWS_IOT_THING_NAME")
    )
    for option, (name, metavar, text) in _PARAMETERS.items():
        parser.add_argument(option, dest=name, metavar=metavar, help=text)
    parser.add_argument(
        "--messaging",
        choices=("greengrass", "mqtt"),
        default="greengrass" if environment.get(_SOCKET) else "mqtt",
        help="default: greengrass if the nucleus's socket is in the environment, else mqtt",
    )
    parser.add_argument("--mqtt-url", metavar="URL", help="mqtt://host:1883 or mqtts://host:8883")
    parser.add_argument("--ca", type=Path, help="certificate authority of the broker")
    parser.add_argument("--cert", type=Path, help="client certificate, as for AWS IoT Core")
    parser.add_argument("--key", type=Path, help="private key of the client certificate")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of parameters")
    arguments = parser.parse_args(given, namespace=Arguments())
    if not arguments.thing_name:
        parser.error("give --thing-name, or set AWS_IOT_THING_NAME")
    if arguments.messaging == "mqtt" and not arguments.mqtt_url:
        parser.error(
            "give --mqtt-url, such as mqtt://localhost:1883; or set"
            f" {_SOCKET} to the nucleus's socket"
        )
    if arguments.messaging == "greengrass" and not environment.get(_SOCKET):
        parser.error(f"--messaging greengrass needs the nucleus's socket in {_SOCKET}")
    arguments.parameters = {name: getattr(arguments, name) for name, _, _ in _PARAMETERS.values()}
    return arguments
