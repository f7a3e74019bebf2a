"""Checks the authorization policies of components: `accessControl` in their configuration.

Sources: "Authorize components to perform IPC operations" in the Greengrass developer guide; for
the wildcards, WildcardTrie of the nucleus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import UnauthorizedError

__all__ = ["MQTT_PROXY", "PUBSUB", "SHADOW_MANAGER", "AccessControl"]

MQTT_PROXY = "aws.greengrass.ipc.mqttproxy"
PUBSUB = "aws.greengrass.ipc.pubsub"
SHADOW_MANAGER = "aws.greengrass.ShadowManager"

_MQTT_STYLE = {MQTT_PROXY, PUBSUB}

_TOKEN = re.compile(r"\$\{(?P<escaped>.)\}|(?P<any>\*)|.", re.DOTALL)
_MQTT_TOKEN = re.compile(
    r"\$\{(?P<escaped>.)\}|(?P<any>\*|(?:^|/)#\Z)|(?P<level>(?<![^/])\+(?![^/]))|.", re.DOTALL
)


class AccessControl:
    """The permissions of one component: only what a policy allows.

    `policies` is {service: {policy id: {"operations": […], "resources": […]}}}. Operations have
    their full names (`aws.greengrass#PublishToIoTCore`), or are `*`.
    """

    def __init__(self, component: str, policies: Mapping[str, Any], *, thing_name: str) -> None:
        self._component = component
        self._allowed: dict[tuple[str, str], list[re.Pattern[str]]] = {}
        for service, operation, resource in _entries(policies):
            pattern = _pattern(
                resource.replace("{iot:thingName}", thing_name), mqtt=service in _MQTT_STYLE
            )
            self._allowed.setdefault((service, operation), []).append(pattern)

    def check(self, service: str, operation: str, resource: str) -> None:
        """Raise UnauthorizedError unless a policy allows `operation`, which is a short name."""
        full_name = f"aws.greengrass#{operation}"
        for name in (full_name, "*"):
            patterns = self._allowed.get((service, name), [])
            if any(pattern.fullmatch(resource) for pattern in patterns):
                return
        raise UnauthorizedError(
            f"Principal {self._component} is not authorized to perform "
            f"{service}:{full_name} on resource {resource}"
        )


def _entries(policies: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for service, by_id in policies.items():
        for policy in by_id.values():
            for operation in policy["operations"]:
                for resource in policy["resources"]:
                    yield service, operation, resource


def _pattern(resource: str, *, mqtt: bool) -> re.Pattern[str]:
    """Compile a resource to a pattern: `*` is any text, `${c}` is the character c itself.

    With `mqtt`, for services whose resources are topics, `+` and `#` are wildcards too where MQTT
    allows them.
    """
    token = _MQTT_TOKEN if mqtt else _TOKEN
    return re.compile("".join(_regex(match) for match in token.finditer(resource)), re.DOTALL)


def _regex(token: re.Match[str]) -> str:
    if token.lastgroup == "escaped":
        return re.escape(token["escaped"])
    if token.lastgroup == "level":
        return "[^/]*"
    if token.lastgroup == "any":
        return "(?:/.*)?" if token[0] == "/#" else ".*"
    return re.escape(token[0])
