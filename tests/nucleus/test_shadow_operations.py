"""Shadows over IPC, with ShadowManager and without."""

from __future__ import annotations

import json
from typing import Any

import pytest
from awsiot.greengrasscoreipc.model import (
    ConflictError,
    InvalidArgumentsError,
    ResourceNotFoundError,
    ServiceError,
    UnauthorizedError,
)

from sandbox.nucleus import Nucleus
from tests.nucleus.support import Component, policies
from tests.support import eventually

SHADOWS = "aws.greengrass.ShadowManager"
OPERATIONS = ["GetThingShadow", "UpdateThingShadow", "DeleteThingShadow"]
MODELS = {"thing_name": "dev-01", "shadow_name": "models"}


def register(nucleus: Nucleus) -> dict[str, str]:
    shadow = "$aws/things/{iot:thingName}/shadow/name/models"
    access = {
        **policies(SHADOWS, OPERATIONS, [shadow]),
        **policies("aws.greengrass.ipc.pubsub", ["SubscribeToTopic"], [f"{shadow}/*"]),
    }
    access[SHADOWS].update(
        {"list": {"operations": ["aws.greengrass#ListNamedShadowsForThing"], "resources": ["*"]}}
    )
    nucleus.register("a", access)
    return nucleus.component_environment("a")


def request(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


async def test_update_get_delete(nucleus: Nucleus) -> None:
    async with Component(register(nucleus)) as component:
        with pytest.raises(ResourceNotFoundError) as not_found:
            await component.call("get_thing_shadow", **MODELS)
        assert not_found.value.resource_type == "shadow"

        updated = await component.call(
            "update_thing_shadow",
            **MODELS,
            payload=request(state={"reported": {"m": 1}}, clientToken="t"),
        )
        accepted = json.loads(updated.payload)
        assert accepted["version"] == 1
        assert accepted["clientToken"] == "t"

        document = json.loads((await component.call("get_thing_shadow", **MODELS)).payload)
        assert document["state"] == {"reported": {"m": 1}}
        assert document["version"] == 1

        listed = await component.call("list_named_shadows_for_thing", thing_name="dev-01")
        assert listed.results == ["models"]

        deleted = await component.call("delete_thing_shadow", **MODELS)
        assert deleted.payload == b""
        with pytest.raises(ResourceNotFoundError):
            await component.call("delete_thing_shadow", **MODELS)


async def test_each_refusal_has_its_error(nucleus: Nucleus) -> None:
    async with Component(register(nucleus)) as component:
        state = {"reported": {"m": 1}}
        await component.call("update_thing_shadow", **MODELS, payload=request(state=state))
        with pytest.raises(ConflictError) as conflict:
            await component.call(
                "update_thing_shadow", **MODELS, payload=request(state=state, version=7)
            )
        assert conflict.value.message == "Version conflict"
        with pytest.raises(InvalidArgumentsError):
            await component.call("update_thing_shadow", **MODELS, payload=b"{")
        with pytest.raises(InvalidArgumentsError) as too_large:
            await component.call(
                "update_thing_shadow",
                **MODELS,
                payload=request(state={"reported": {"m": "x" * 9000}}),
            )
        assert too_large.value.message == "The payload exceeds the maximum size allowed"
        with pytest.raises(UnauthorizedError):
            await component.call("get_thing_shadow", thing_name="dev-01", shadow_name="other")


async def test_changes_are_told_on_local_topics(nucleus: Nucleus) -> None:
    async with Component(register(nucleus)) as component:
        prefix = "$aws/things/dev-01/shadow/name/models"
        delta = await component.subscribe("subscribe_to_topic", topic=f"{prefix}/update/delta")
        nucleus.shadows.update("dev-01", "models", request(state={"desired": {"m": 2}}))
        (event,) = await eventually(lambda: delta.events)
        assert event.binary_message.context.topic == f"{prefix}/update/delta"
        assert json.loads(event.binary_message.message)["state"] == {"m": 2}


async def test_lite_has_no_shadows(lite: Nucleus) -> None:
    async with Component(register(lite)) as component:
        with pytest.raises(ServiceError) as error:
            await component.call("get_thing_shadow", **MODELS)
        assert error.value.message is None


async def test_the_names_are_listed_in_pages(nucleus: Nucleus) -> None:
    for name in ("c", "a", "b"):
        nucleus.shadows.update("dev-01", name, request(state={"reported": {"m": 1}}))
    async with Component(register(nucleus)) as component:
        listing = {"thing_name": "dev-01", "page_size": 2}
        first = await component.call("list_named_shadows_for_thing", **listing)
        assert first.results == ["a", "b"]
        second = await component.call(
            "list_named_shadows_for_thing", **listing, next_token=first.next_token
        )
        assert (second.results, second.next_token) == (["c"], None)
        with pytest.raises(InvalidArgumentsError):
            await component.call("list_named_shadows_for_thing", thing_name="dev-01", page_size=101)
