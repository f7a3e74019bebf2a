"""Components connect to the nucleus, which can be made to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from awscrt.exceptions import AwsCrtError
from awsiot.eventstreamrpc import AccessDeniedError
from awsiot.greengrasscoreipc.model import InvalidArgumentsError, ServiceError

from sandbox.nucleus import Nucleus
from sandbox.nucleus.server import Json, Operation, RpcServer, Stream
from sandbox.nucleus.wire import HeaderValue, Message, MessageFlag, MessageType, read_message
from sandbox.servers import Broker
from tests.nucleus.support import Component, policies
from tests.support import PATIENCE, eventually


async def test_an_unknown_token_is_refused(nucleus: Nucleus) -> None:
    nucleus.register("a")
    environment = {**nucleus.component_environment("a"), "SVCUID": "unknown"}
    with pytest.raises(AccessDeniedError):
        await Component(environment).__aenter__()


async def test_lite_refuses_a_token_without_a_word(lite: Nucleus) -> None:
    lite.register("a")
    environment = {**lite.component_environment("a"), "SVCUID": "unknown"}
    with pytest.raises(AwsCrtError, match="AWS_IO_SOCKET_CLOSED"):
        await Component(environment).__aenter__()
    lite.faults.cut_handshakes = 1
    with pytest.raises(AwsCrtError, match="AWS_IO_SOCKET_CLOSED"):
        await Component(lite.component_environment("a")).__aenter__()
    async with Component(lite.component_environment("a")):
        assert lite.connected("a")


async def test_lite_asks_nobody_before_an_update(lite: Nucleus) -> None:
    lite.register("a")
    async with Component(lite.component_environment("a")) as component:
        with pytest.raises(ServiceError):
            await component.subscribe("subscribe_to_component_updates")
        assert await lite.propose_update() == {}


async def test_streams_can_end_while_the_connection_stays(nucleus: Nucleus) -> None:
    nucleus.register("a", {}, {"x": 1})
    async with Component(nucleus.component_environment("a")) as component:
        stream = await component.subscribe("subscribe_to_configuration_update")
        nucleus.end_streams("a")
        await asyncio.wait_for(stream.closed.wait(), PATIENCE)
        assert nucleus.configuration_watchers == 0
        await component.call("get_configuration")


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
        await asyncio.wait_for(a.lost.wait(), PATIENCE)
        await asyncio.wait_for(subscription.closed.wait(), PATIENCE)
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
        await asyncio.wait_for(component.lost.wait(), PATIENCE)
    async with Component(before) as component:
        await nucleus.restart(forget_tokens=True)
        await asyncio.wait_for(component.lost.wait(), PATIENCE)
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


class RawClient:
    """A client that receives all messages unchanged; an async context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> RawClient:
        self._reader, self._writer = await asyncio.open_unix_connection(self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def send(self, kind: MessageType, payload: bytes = b"", **headers: HeaderValue) -> None:
        every: dict[str, HeaderValue] = {
            ":message-type": kind,
            ":message-flags": headers.pop("flags", 0),
            ":stream-id": headers.pop("stream", 0),
        }
        self._writer.write(Message({**every, **headers}, payload).encode())

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self) -> Message | None:
        return await asyncio.wait_for(read_message(self._reader), PATIENCE)

    async def connect(self, token: str, version: str = "0.1.0") -> HeaderValue:
        """Connect; return the flags of the response."""
        payload = f'{{"authToken": "{token}"}}'.encode()
        self.send(MessageType.CONNECT, payload, **{":version": version})
        answer = await self.read()
        assert answer is not None
        assert answer.headers[":message-type"] == MessageType.CONNECT_ACK
        return answer.headers[":message-flags"]


@pytest.fixture
async def raw(nucleus: Nucleus) -> AsyncIterator[RawClient]:
    async with RawClient(nucleus.socket_path) as client:
        yield client


async def test_bytes_that_are_no_message_end_the_connection(raw: RawClient) -> None:
    raw.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await raw.read()
    assert answer is not None
    assert answer.headers[":message-type"] == MessageType.PROTOCOL_ERROR
    assert await raw.read() is None


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"authToken": 1}'])
async def test_a_client_without_a_token_is_refused(raw: RawClient, payload: bytes) -> None:
    raw.send(MessageType.CONNECT, payload, **{":version": "0.1.0"})
    answer = await raw.read()
    assert answer is not None
    assert answer.headers[":message-flags"] == MessageFlag.NONE


async def test_another_version_of_the_protocol_is_refused(nucleus: Nucleus, raw: RawClient) -> None:
    nucleus.register("a")
    token = nucleus.component_environment("a")["SVCUID"]
    assert await raw.connect(token, version="0.2.0") == MessageFlag.NONE


async def test_a_ping_is_answered(nucleus: Nucleus, raw: RawClient) -> None:
    nucleus.register("a")
    token = nucleus.component_environment("a")["SVCUID"]
    assert await raw.connect(token) == MessageFlag.CONNECTION_ACCEPTED
    raw.send(MessageType.PING, b"hello")
    answer = await raw.read()
    assert answer is not None
    assert answer.headers[":message-type"] == MessageType.PING_RESPONSE
    assert answer.payload == b"hello"


async def test_a_stream_ends_with_its_response_or_by_the_client(
    nucleus: Nucleus, raw: RawClient
) -> None:
    nucleus.register("a", policies("aws.greengrass.ipc.pubsub", ["SubscribeToTopic"], ["*"]))
    await raw.connect(nucleus.component_environment("a")["SVCUID"])
    message, prefix = MessageType.APPLICATION_MESSAGE, "aws.greengrass#"
    raw.send(message, b"{}", stream=1, operation=f"{prefix}GetConfiguration")
    response = await raw.read()
    assert response is not None
    assert response.headers["service-model-type"] == f"{prefix}GetConfigurationResponse"
    assert response.headers[":message-flags"] == MessageFlag.TERMINATE_STREAM

    topic = "$aws/things/dev-01/shadow/update/accepted"
    raw.send(
        message, f'{{"topic": "{topic}"}}'.encode(), stream=2,
        operation=f"{prefix}SubscribeToTopic",
    )  # fmt: skip
    response = await raw.read()
    assert response is not None
    assert response.headers[":message-flags"] == MessageFlag.NONE
    nucleus.shadows.update("dev-01", "", b'{"state": {"reported": {"a": 1}}}')
    event = await raw.read()
    assert event is not None
    assert event.headers["service-model-type"] == f"{prefix}SubscriptionResponseMessage"

    raw.send(message, stream=2, flags=MessageFlag.TERMINATE_STREAM)
    raw.send(MessageType.PING)
    await raw.read()
    nucleus.shadows.update("dev-01", "", b'{"state": {"reported": {"a": 2}}}')
    raw.send(MessageType.PING)
    answer = await raw.read()
    assert answer is not None
    assert answer.headers[":message-type"] == MessageType.PING_RESPONSE


@pytest.fixture
async def odd_server(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """A server with its own operations; yields the environment of its component."""

    async def hasty(stream: Stream, _request: Json) -> Json:
        stream.send("SubscriptionResponseMessage", {"binaryMessage": {"message": ""}})
        return {}

    async def broken(_stream: Stream, _request: Json) -> Json:
        raise ZeroDivisionError("a fault of the handler")

    path = tmp_path / "odd.socket"
    server = RpcServer(
        path,
        {
            "SubscribeToTopic": Operation(hasty, "SubscriptionResponseMessage"),
            "GetConfiguration": Operation(broken),
        },
        authenticate=lambda token: token,
        with_messages=True,
    )
    await server.start()
    yield {
        "SVCUID": "a",
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(path),
    }
    await server.stop()


async def test_an_event_never_comes_before_the_response(odd_server: dict[str, str]) -> None:
    async with Component(odd_server) as component:
        subscription = await component.subscribe("subscribe_to_topic", topic="t")
        await eventually(lambda: subscription.events)


async def test_a_fault_of_the_nucleus_leaves_no_client_waiting(
    odd_server: dict[str, str],
) -> None:
    async with Component(odd_server) as component:
        with pytest.raises(ServiceError) as error:
            await component.call("get_configuration")
        assert "a fault of the handler" in error.value.message


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
        await nucleus.drop_connection("a")
        assert await nucleus.propose_update("f") == {}


async def test_reported_states_are_kept(nucleus: Nucleus) -> None:
    nucleus.register("a")
    async with Component(nucleus.component_environment("a")) as component:
        await component.call("update_state", state="RUNNING")
        await component.call("update_state", state="ERRORED")
        assert nucleus.states("a") == ["RUNNING", "ERRORED"]
        with pytest.raises(InvalidArgumentsError):
            await component.call("update_state", state="FINE")
