"""Authorization policies follow the developer guide."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.nucleus.authorization import MQTT_PROXY, PUBSUB, SHADOW_MANAGER, AccessControl
from sandbox.nucleus.errors import UnauthorizedError
from tests.nucleus.support import policies


def allowed(resource: str, topic: str, service: str = MQTT_PROXY) -> bool:
    control = AccessControl(
        "a", policies(service, ["PublishToIoTCore"], [resource]), thing_name="dev-01"
    )
    try:
        control.check(service, "PublishToIoTCore", topic)
    except UnauthorizedError:
        return False
    return True


@pytest.mark.parametrize(
    ("resource", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a.b", "axb", False),
        ("*", "any/thing", True),
        ("#", "any/thing", True),
        ("a/*", "a/b/c", True),
        ("a*/x", "abc/d/x", True),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/b/c", False),
        ("+/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("a+/b", "ax/b", False),
        ("a#", "ab", False),
        ("a/#/b", "a/x/b", False),
        ("a/${*}", "a/*", True),
        ("a/${*}", "a/b", False),
        ("a/${+}/${#}", "a/+/#", True),
        ("s3/{iot:thingName}/*", "s3/dev-01/commands", True),
        ("s3/{iot:thingName}/*", "s3/dev-02/commands", False),
    ],
)
def test_resources_of_topics(resource: str, topic: str, expected: bool) -> None:
    assert allowed(resource, topic) is expected
    assert allowed(resource, topic, service=PUBSUB) is expected


@pytest.mark.parametrize(
    ("resource", "topic", "expected"),
    [
        ("$aws/things/{iot:thingName}/shadow/name/models", "/name/models", True),
        ("$aws/things/{iot:thingName}/shadow/name/models", "/name/other", False),
        ("$aws/things/*/shadow/name/*", "/name/models", True),
        ("$aws/things/+/shadow/name/models", "/name/models", False),
        ("$aws/things/dev-01/shadow/#", "/name/models", False),
    ],
)
def test_shadows_know_no_mqtt_wildcards(resource: str, topic: str, expected: bool) -> None:
    shadow = f"$aws/things/dev-01/shadow{topic}"
    assert allowed(resource, shadow, service=SHADOW_MANAGER) is expected


@pytest.mark.parametrize(
    ("access", "reason"),
    [
        ({}, "no policy at all"),
        (policies(MQTT_PROXY, ["SubscribeToIoTCore"], ["*"]), "another operation"),
        (policies(PUBSUB, ["PublishToIoTCore"], ["*"]), "another service"),
        (
            {MQTT_PROXY: {"p": {"operations": ["PublishToIoTCore"], "resources": ["*"]}}},
            "the short name of the operation",
        ),
    ],
)
def test_everything_else_is_refused(access: dict[str, Any], reason: str) -> None:
    control = AccessControl("a", access, thing_name="dev-01")
    with pytest.raises(UnauthorizedError, match=r"aws\.greengrass#PublishToIoTCore on resource t"):
        control.check(MQTT_PROXY, "PublishToIoTCore", "t")


def test_a_star_stands_for_every_operation() -> None:
    access = {MQTT_PROXY: {"p": {"operations": ["*"], "resources": ["t"]}}}
    AccessControl("a", access, thing_name="dev-01").check(MQTT_PROXY, "PublishToIoTCore", "t")
