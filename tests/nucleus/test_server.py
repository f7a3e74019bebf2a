"""Connecting, and the faults that a nucleus can have."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from awsiot.eventstreamrpc import AccessDeniedError
from awsiot.greengrasscoreipc.model import InvalidArgumentsError, ServiceError

from sandbox.nucleus import Nucleus
from sandbox.nucleus.wire import HeaderValue, Message, MessageFlag, MessageType, read_message
from sandbox.servers import Broker
from tests.nucleus.support import Component
from tests.support import eventually


async def test_an_unknown_token_is_refused(nucleus: Nucleus) -> None:
    nucleus.register("a")
    environment = {**nucleus.component_environment("a"), "SVCUID": "unknown"}
    with pytest.raises(AccessDeniedError):
        await Component(environment).__aenter__()


async def test_an_operation_that_is_not_there_is_refused_politely(nucleus: Nucleus) -> None:
    nucleus.register("a")
    async with Component(nucleus.component_environment("a")) as component:
        with pytest.raises(ServiceError) as error:
            await component.call("list_components")
        assert error.value.message == (
            "Operation aws.greengrass#ListComponents is not supported by Greengrass"
        )
        await component.call("get_configuration")


async def test_a_dropped_connection_can_be_made_again(nucleus: Nucleus) -> None:
    nucleus.register("a")
    nucleus.register("b")
    async with (
        Component(nucleus.component_environment("a")) as a,
        Component(nucleus.component_environment("b")) as b,
    ):
        subscription = await a.subscribe("subscribe_to_configuration_update")
        await nucleus.drop_connection("a")
        await asyncio.wait_for(a.lost.wait(), 5)
        await asyncio.wait_for(subscription.closed.wait(), 5)
        assert not nucleus.connected("a")
        assert nucleus.connected("b")
        assert not b.lost.is_set()
        nucleus.set_configuration("a", {"x": 1})
        async with Component(nucleus.component_environment("a")) as again:
            await again.call("get_configuration")


async def test_after_a_restart_the_tokens_hold_unless_forgotten(nucleus: Nucleus) -> None:
    nucleus.register("a")
    before = nucleus.component_environment("a")
    async with Component(before) as component:
        await nucleus.restart()
        await asyncio.wait_for(component.lost.wait(), 5)
    async with Component(before) as component:
        await nucleus.restart(forget_tokens=True)
        await asyncio.wait_for(component.lost.wait(), 5)
    with pytest.raises(AccessDeniedError):
        await Component(before).__aenter__()
    async with Component(nucleus.component_environment("a")) as component:
        await component.call("get_configuration")


async def test_connections_can_be_refused(nucleus: Nucleus) -> None:
    nucleus.register("a")
    nucleus.faults.refuse_connections = True
    with pytest.raises(AccessDeniedError):
        await Component(nucleus.component_environment("a")).__aenter__()
    nucleus.faults.refuse_connections = False
    async with Component(nucleus.component_environment("a")):
        pass


async def test_bytes_that_are_no_message_end_the_connection(nucleus: Nucleus) -> None:
    reader, writer = await asyncio.open_unix_connection(nucleus.socket_path)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await read_message(reader)
    assert answer is not None
    assert answer.headers[":message-type"] == MessageType.PROTOCOL_ERROR
    assert await read_message(reader) is None
    writer.close()


async def test_a_ping_is_answered(nucleus: Nucleus) -> None:
    nucleus.register("a")
    token = nucleus.component_environment("a")["SVCUID"]
    reader, writer = await asyncio.open_unix_connection(nucleus.socket_path)
    headers: dict[str, HeaderValue] = {":message-flags": 0, ":stream-id": 0, ":version": "0.1.0"}
    connect = Message(
        {**headers, ":message-type": MessageType.CONNECT}, f'{{"authToken": "{token}"}}'.encode()
    )
    writer.write(connect.encode())
    accepted = await read_message(reader)
    assert accepted is not None
    assert accepted.headers[":message-flags"] == MessageFlag.CONNECTION_ACCEPTED
    writer.write(Message({**headers, ":message-type": MessageType.PING}, b"hello").encode())
    answer = await read_message(reader)
    assert answer is not None
    assert answer.headers[":message-type"] == MessageType.PING_RESPONSE
    assert answer.payload == b"hello"
    writer.close()


async def test_a_long_directory_gets_a_short_socket(broker: Broker, tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 100)
    directory.mkdir()
    async with Nucleus(
        thing_name="dev-01", directory=directory, broker_port=broker.port
    ) as nucleus:
        nucleus.register("a")
        async with Component(nucleus.component_environment("a")):
            folder = nucleus.socket_path.parent
    assert not folder.exists()


async def test_components_are_asked_before_an_update(nucleus: Nucleus) -> None:
    nucleus.register("a")
    async with Component(nucleus.component_environment("a")) as component:
        assert await nucleus.propose_update() == {}
        with pytest.raises(InvalidArgumentsError):
            await component.call("defer_component_update", deployment_id="d")
        subscription = await component.subscribe("subscribe_to_component_updates")
        proposal = asyncio.create_task(nucleus.propose_update("d", restarting=True))
        (event,) = await eventually(lambda: subscription.events)
        assert event.pre_update_event.deployment_id == "d"
        assert event.pre_update_event.is_ggc_restarting is True
        await component.call("defer_component_update", deployment_id="d", recheck_after_ms=500)
        assert await proposal == {"a": 500}
        with pytest.raises(ServiceError):
            await component.call("defer_component_update", deployment_id="d")
        nucleus.finish_update("d")
        await eventually(lambda: len(subscription.events) == 2)
        assert subscription.events[1].post_update_event.deployment_id == "d"
        with pytest.raises(TimeoutError):
            await nucleus.propose_update("e", within=0.01)


async def test_reported_states_are_kept(nucleus: Nucleus) -> None:
    nucleus.register("a")
    async with Component(nucleus.component_environment("a")) as component:
        await component.call("update_state", state="RUNNING")
        await component.call("update_state", state="ERRORED")
        assert nucleus.states("a") == ["RUNNING", "ERRORED"]
        with pytest.raises(InvalidArgumentsError):
            await component.call("update_state", state="FINE")
