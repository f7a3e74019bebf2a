"""The RPC server of Greengrass IPC: connections, streams and operations on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from s3downloader.core.aio import background

from .errors import InvalidArgumentsError, IpcError, ServiceError
from .wire import HeaderValue, Message, MessageFlag, MessageType, WireError, read_message

__all__ = ["Handler", "Json", "Operation", "RpcServer", "Stream"]

Json = dict[str, Any]
Handler = Callable[["Stream", Json], Awaitable[Json]]
"""Called with the stream of a request and its payload; returns the payload of the response."""

_NAMESPACE = "aws.greengrass#"
_VERSION = "0.1.0"
_TERMINATE = MessageFlag.TERMINATE_STREAM


@dataclass(frozen=True)
class Operation:
    """An operation: its handler, and the model name of its events if it is a subscription."""

    handle: Handler
    event: str | None = None


class Stream:
    """A request of a component, its response, and the events of a subscription."""

    def __init__(self, connection: _Connection, stream_id: int, name: str) -> None:
        self.component = connection.component
        self.operation = name
        self._connection = connection
        self._id = stream_id
        self._backlog: list[Message] | None = []
        self._on_close: list[Callable[[], None]] = []
        self._closed = False

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the stream has ended, by either side."""
        if self._closed:
            callback()
        else:
            self._on_close.append(callback)

    def send(self, model: str, payload: Mapping[str, Any]) -> None:
        """Send an event. Events before the response are held back, and sent after it."""
        event = self._message(MessageType.APPLICATION_MESSAGE, MessageFlag.NONE, model, payload)
        if self._backlog is None:
            self._connection.write(event)
        else:
            self._backlog.append(event)

    def respond(self, payload: Json, *, last: bool) -> None:
        """Send the response, then the events that were held back. `last` ends the stream."""
        flags = _TERMINATE if last else MessageFlag.NONE
        model = f"{self.operation}Response"
        messages = self._backlog or []
        self._backlog = None
        self._connection.write(
            self._message(MessageType.APPLICATION_MESSAGE, flags, model, payload)
        )
        for message in messages:
            self._connection.write(message)

    def fail(self, error: IpcError, *, with_message: bool) -> None:
        """Send an error, which ends the stream."""
        payload = {"message": error.message, **error.fields} if with_message else {}
        kind = type(error).__name__
        self._connection.write(
            self._message(MessageType.APPLICATION_ERROR, _TERMINATE, kind, payload)
        )

    def close(self) -> None:
        """Mark the stream as ended, and call the callbacks of `on_close`."""
        self._closed = True
        for callback in self._on_close:
            callback()

    def _message(
        self, kind: MessageType, flags: MessageFlag, model: str, payload: Mapping[str, Any]
    ) -> Message:
        headers: dict[str, HeaderValue] = {
            ":message-type": kind,
            ":message-flags": flags,
            ":stream-id": self._id,
            ":content-type": "application/json",
            "service-model-type": _NAMESPACE + model,
        }
        return Message(headers, msgspec.json.encode(payload))


class RpcServer:
    """Serves `operations`, by their names without namespace, on the Unix socket `path`.

    `authenticate` returns the name of the component with a token, or None to refuse the client.
    With `refuses_by_closing` the connection of a refused client is closed without a response.
    Only `with_messages` do errors have their message. A request of more than `max_request` bytes
    closes the connection.
    """

    def __init__(
        self,
        path: Path,
        operations: Mapping[str, Operation],
        *,
        authenticate: Callable[[str], str | None],
        with_messages: bool,
        refuses_by_closing: bool = False,
        max_request: int | None = None,
    ) -> None:
        self._path = path
        self._operations = operations
        self._authenticate = authenticate
        self._with_messages = with_messages
        self.refuses_by_closing = refuses_by_closing
        self.max_request = max_request
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        """Stop listening, and close all connections."""
        assert self._server is not None
        self._server.close()
        await self._end(self._connections)
        self._path.unlink(missing_ok=True)

    def connected(self, component: str) -> bool:
        """Return whether `component` has a connection."""
        return any(connection.component == component for connection in self._connections)

    async def drop(self, component: str) -> None:
        """Close the connections of a component, and wait until their streams have closed."""
        await self._end({c for c in self._connections if c.component == component})

    def end_streams(self, component: str) -> None:
        """End all subscriptions of a component; its connection stays open."""
        for connection in self._connections:
            if connection.component == component:
                connection.end_streams()

    @staticmethod
    async def _end(connections: set[_Connection]) -> None:
        tasks = [connection.task for connection in connections]
        for connection in connections:
            connection.abort()
        await asyncio.gather(*tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def component_of(self, payload: bytes) -> str | None:
        """Return the component whose token is in the payload of a connect message, or None."""
        with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError, KeyError):
            return self._authenticate(
                msgspec.json.decode(payload, type=dict[str, str])["authToken"]
            )
        return None

    async def handle(self, stream: Stream, payload: bytes) -> bool:
        """Carry out a request and send its response; return whether the stream stays open."""
        try:
            operation = self._operations.get(stream.operation)
            if operation is None:
                raise ServiceError(
                    f"Operation {_NAMESPACE}{stream.operation} is not supported by Greengrass"
                )
            response = await operation.handle(stream, _decode_request(payload))
        except IpcError as error:
            stream.fail(error, with_message=self._with_messages)
            return False
        except Exception as error:  # a bug of the nucleus; the client must not wait for ever
            stream.fail(ServiceError(repr(error)), with_message=self._with_messages)
            raise
        stream.respond(response, last=operation.event is None)
        return operation.event is not None


class _Connection:
    """A connection: authenticates its client, then serves its streams until it is closed."""

    def __init__(
        self, server: RpcServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.component = ""
        self._server = server
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, Stream] = {}
        self._requests: set[asyncio.Task[None]] = set()

    def write(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(message.encode())

    def abort(self) -> None:
        self._writer.transport.abort()

    async def serve(self) -> None:
        try:
            if await self._accept():
                while (message := await self._read()) is not None:
                    self._receive(message)
        except (WireError, ConnectionError) as error:
            self._send(MessageType.PROTOCOL_ERROR, payload=str(error).encode())
        finally:
            await self._close()

    async def _read(self) -> Message | None:
        """Return the next message; None at the end of the stream, and if a message is too large."""
        return await read_message(self._reader, self._server.max_request)

    async def _accept(self) -> bool:
        message = await self._read()
        if message is None:
            return False
        component = self._server.component_of(message.payload)
        if message.headers.get(":version") != _VERSION or component is None:
            if self._server.refuses_by_closing:
                return False
            self._send(MessageType.CONNECT_ACK)
            await self._reader.read()  # waits until the client closes, so that it gets the refusal
            return False
        self.component = component
        self._send(MessageType.CONNECT_ACK, MessageFlag.CONNECTION_ACCEPTED)
        return True

    def _send(
        self, kind: MessageType, flags: MessageFlag = MessageFlag.NONE, payload: bytes = b""
    ) -> None:
        headers: dict[str, HeaderValue] = {
            ":message-type": kind,
            ":message-flags": flags,
            ":stream-id": 0,
        }
        self.write(Message(headers, payload))

    def _receive(self, message: Message) -> None:
        kind = message.headers.get(":message-type")
        if kind == MessageType.PING:
            self._send(MessageType.PING_RESPONSE, payload=message.payload)
            return
        stream_id = message.headers.get(":stream-id")
        flags = message.headers.get(":message-flags", 0)
        if kind != MessageType.APPLICATION_MESSAGE or not isinstance(stream_id, int):
            raise WireError(f"a client must not send message type {kind!r} on stream {stream_id!r}")
        if isinstance(flags, int) and flags & _TERMINATE:
            self._close_stream(stream_id)
        elif "operation" in message.headers:
            name = str(message.headers["operation"]).removeprefix(_NAMESPACE)
            stream = self._streams[stream_id] = Stream(self, stream_id, name)
            request = background(self._handle(stream_id, stream, message.payload))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    async def _handle(self, stream_id: int, stream: Stream, payload: bytes) -> None:
        stays_open = False
        try:
            stays_open = await self._server.handle(stream, payload)
        finally:
            if not stays_open:
                self._close_stream(stream_id)

    def end_streams(self) -> None:
        for stream_id in list(self._streams):
            headers: dict[str, HeaderValue] = {
                ":message-type": MessageType.APPLICATION_MESSAGE,
                ":message-flags": _TERMINATE,
                ":stream-id": stream_id,
            }
            self.write(Message(headers))
            self._close_stream(stream_id)

    def _close_stream(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.close()

    async def _close(self) -> None:
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        for stream_id in list(self._streams):
            self._close_stream(stream_id)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _decode_request(payload: bytes) -> Json:
    try:
        return msgspec.json.decode(payload, type=Json)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise InvalidArgumentsError("the payload of a request must be a JSON object") from None
