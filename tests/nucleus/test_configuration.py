"""Components read, change and follow their configuration over IPC."""

from __future__ import annotations

import pytest
from awsiot.greengrasscoreipc.model import (
    InvalidArgumentsError,
    ResourceNotFoundError,
    ServiceError,
)

from sandbox.nucleus import Nucleus
from tests.nucleus.support import Component, Subscription
from tests.support import eventually


def key_paths(subscription: Subscription) -> list[list[str]]:
    return [event.configuration_update_event.key_path for event in subscription.events]


async def test_get_reads_the_whole_or_a_part(nucleus: Nucleus) -> None:
    nucleus.register("a", {}, {"LogLevel": "INFO", "Limits": {"Downloads": 2}})
    async with Component(nucleus.component_environment("a")) as component:
        whole = await component.call("get_configuration")
        assert whole.component_name == "a"
        assert whole.value == {"LogLevel": "INFO", "Limits": {"Downloads": 2}, "accessControl": {}}
        part = await component.call("get_configuration", key_path=["Limits"])
        assert part.value == {"Downloads": 2}
        leaf = await component.call("get_configuration", key_path=["Limits", "Downloads"])
        assert leaf.value == {"Downloads": 2}
        with pytest.raises(ResourceNotFoundError):
            await component.call("get_configuration", key_path=["Nothing"])


async def test_a_change_is_told_once_for_each_value_that_changed(nucleus: Nucleus) -> None:
    nucleus.register("a", {}, {"LogLevel": "INFO", "Limits": {"Downloads": 2, "Bytes": 1}})
    async with Component(nucleus.component_environment("a")) as component:
        every = await component.subscribe("subscribe_to_configuration_update")
        limits = await component.subscribe("subscribe_to_configuration_update", key_path=["Limits"])
        nucleus.set_configuration(
            "a", {"LogLevel": "DEBUG", "Limits": {"Downloads": 3, "Bytes": 1}}
        )
        await eventually(lambda: len(every.events) >= 2 and limits.events)
        assert key_paths(every) == [["LogLevel"], ["Limits", "Downloads"]]
        assert key_paths(limits) == [["Limits", "Downloads"]]
        value = (await component.call("get_configuration", key_path=["LogLevel"])).value
        assert value == {"LogLevel": "DEBUG"}


async def test_a_component_updates_its_own_values(nucleus: Nucleus) -> None:
    nucleus.register("a", {}, {"LogLevel": "INFO"})
    async with Component(nucleus.component_environment("a")) as component:
        await component.call(
            "update_configuration", key_path=["New", "Part"], value_to_merge={"x": [1]}
        )
        part = await component.call("get_configuration", key_path=["New"])
        assert part.value == {"Part": {"x": [1]}}
        with pytest.raises(InvalidArgumentsError):
            await component.call(
                "update_configuration", key_path=["LogLevel"], value_to_merge={"x": 1}
            )
        with pytest.raises(InvalidArgumentsError):
            await component.call("update_configuration", value_to_merge={"accessControl": {}})
        with pytest.raises(InvalidArgumentsError):
            await component.call(
                "update_configuration", key_path=["accessControl"], value_to_merge={"s": {}}
            )


async def test_the_subscriptions_can_die_silently(lite: Nucleus) -> None:
    lite.register("a", {}, {"x": 1})
    async with Component(lite.component_environment("a")) as component:
        dead = await component.subscribe("subscribe_to_configuration_update")
        lite.forget_configuration_subscriptions()
        lite.set_configuration("a", {"x": 2})
        live = await component.subscribe("subscribe_to_configuration_update")
        lite.set_configuration("a", {"x": 3})
        await eventually(lambda: live.events)
        assert (dead.events, dead.closed.is_set()) == ([], False)
        assert lite.configuration_watchers == 1
        await dead.close()
    await eventually(lambda: lite.configuration_watchers == 0)


async def test_the_configuration_can_be_away(lite: Nucleus) -> None:
    lite.register("a", {}, {"x": 1})
    async with Component(lite.component_environment("a")) as component:
        lite.faults.fail_configuration = True
        with pytest.raises(ServiceError):
            await component.call("get_configuration")
        with pytest.raises(ServiceError):
            await component.subscribe("subscribe_to_configuration_update")
        lite.faults.fail_configuration = False
        await component.call("get_configuration")


async def test_lite_turns_the_scalars_of_a_recipe_into_strings(lite: Nucleus) -> None:
    lite.register("a", {}, {"Number": 10, "Flag": True, "Nested": {"List": [1.5, "x"]}})
    async with Component(lite.component_environment("a")) as component:
        value = (await component.call("get_configuration")).value
        assert value["Number"] == "10"
        assert value["Flag"] == "true"
        assert value["Nested"] == {"List": ["1.5", "x"]}
