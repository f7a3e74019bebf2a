"""The connection to the nucleus over Greengrass IPC, kept up.

This uses the lower of the SDK's clients, where each operation is a stream of its own: it calls back
from the I/O thread, and needs no executor with further threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from awscrt.io import SocketDomain, SocketOptions
from awsiot.eventstreamrpc import (
    AccessDeniedError,
    Connection,
    LifecycleHandler,
    MessageAmendment,
    Shape,
    StreamResponseHandler,
)
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import GreengrassCoreIPCError, UnauthorizedError

from ..errors import DownloaderError, ErrorCode
from .backoff import backoff
from .bus import MessagingError
from .sdk import SDK_ERRORS, EventLoopDoor, client_bootstrap
from .trouble import Trouble

__all__ = ["IpcClient", "Subscription"]

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10
REQUEST_TIMEOUT = 30
CLOSE_TIMEOUT = 1

SOCKET_VARIABLE = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
TOKEN_VARIABLE = "SVCUID"  # noqa: S105 - it names a token, and is none


class IpcClient:
    """The one IPC connection for everything that the component asks of its nucleus.

    A dropped connection is replaced and its subscriptions are renewed. The nucleus is lost for good
    when it refuses the component's token, as nucleus lite does after a restart, or when it has been
    away for `patience` seconds: then the component must be started again.
    """

    _door: EventLoopDoor
    _client: GreengrassCoreIPCClient
    _upkeep: asyncio.Task[MessagingError]

    def __init__(self, *, patience: float = 60) -> None:
        """Take the socket and the token from the environment, where the nucleus puts them."""
        try:
            self._socket, self._token = os.environ[SOCKET_VARIABLE], os.environ[TOKEN_VARIABLE]
        except KeyError as error:
            message = f"{error.args[0]} is not set: only a Greengrass nucleus can start this."
            raise DownloaderError(ErrorCode.INVALID_FIELD, message) from None
        self._patience = patience
        self._connection: Connection | None = None
        self._subscriptions: list[Subscription] = []
        self._opening = asyncio.Lock()
        self._damage = asyncio.Event()
        self._trouble = Trouble(logger)

    async def __aenter__(self) -> IpcClient:
        """Connect. Raises MessagingError."""
        self._door = EventLoopDoor()
        await self._connect()
        self._upkeep = asyncio.create_task(self._keep_up())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._upkeep.cancel()
        if connection := self._connection:
            self._connection = None
            with contextlib.suppress(*SDK_ERRORS):
                await self._door.result(connection.close(), within=CLOSE_TIMEOUT)

    async def request(
        self,
        new_operation: Callable[[GreengrassCoreIPCClient], Any],
        request: Shape,
        *,
        resource: str = "",
    ) -> Any:
        """Carry out one operation and return its response.

        Raises ACCESS_DENIED, saying what `accessControl` lacks; MessagingError when no answer
        comes; an operation's other errors as the SDK models them (GreengrassCoreIPCError).
        """
        with _converted_errors(request, resource):
            return await self._answer(new_operation(self._client), request)

    async def subscribe(self, subscription: Subscription) -> None:
        """Open a subscription, now or as soon as the nucleus can. Raises ACCESS_DENIED."""
        self._subscriptions.append(subscription)
        try:
            await self._open(subscription)
        except MessagingError as error:
            self._trouble.report(error.message)
            self._damage.set()
        except DownloaderError:
            self._subscriptions.remove(subscription)
            raise

    def renew(self, subscription: Subscription) -> None:
        """Close a subscription, and have it opened again: two at once would deliver twice."""
        if stream := subscription.stream:
            subscription.stream = None
            stream.close()
        self._damage.set()

    async def wait_lost(self) -> MessagingError:
        """Return once the nucleus is lost for good, with the reason."""
        return await asyncio.shield(self._upkeep)

    async def _answer(self, operation: Any, request: Shape) -> Any:
        operation.activate(request)
        return await self._door.result(operation.get_response(), within=REQUEST_TIMEOUT)

    async def _open(self, subscription: Subscription) -> None:
        async with self._opening:
            if subscription.stream is None:
                await self._open_closed(subscription)

    async def _open_closed(self, subscription: Subscription) -> None:
        stream = subscription.stream = _Stream(
            self._door, subscription.on_event, lambda: self._on_stream_closed(subscription, stream)
        )
        try:
            with _converted_errors(subscription.request, subscription.resource):
                stream.operation = subscription.new_operation(self._client, stream)
                await self._answer(stream.operation, subscription.request)
        except (DownloaderError, GreengrassCoreIPCError) as error:
            subscription.stream = None
            stream.close()
            if isinstance(error, DownloaderError):
                raise
            message = f"The nucleus gives no subscription to {subscription.resource}: {error!r}"
            if not subscription.optional:
                raise MessagingError(message) from error
            self._subscriptions.remove(subscription)
            logger.info("%s", message)

    async def _connect(self) -> None:
        options = SocketOptions()
        options.domain = SocketDomain.Local
        connection = self._connection = Connection(
            host_name=self._socket,
            port=0,
            bootstrap=client_bootstrap(),
            socket_options=options,
            connect_message_amender=MessageAmendment.create_static_authtoken_amender(self._token),
        )
        self._client = GreengrassCoreIPCClient(connection)
        lifecycle = _Lifecycle(self._door, lambda: self._on_disconnected(connection))
        try:
            await self._door.result(connection.connect(lifecycle), within=CONNECT_TIMEOUT)
        except SDK_ERRORS as error:
            self._connection = None
            connection.close()
            if isinstance(error, AccessDeniedError):
                raise _RefusedError from error
            raise MessagingError(f"No nucleus answers at {self._socket}: {error!r}") from error
        logger.info("Connected to the nucleus at %s", self._socket)

    def _on_disconnected(self, connection: Connection) -> None:
        if self._connection is connection:
            self._trouble.report("The nucleus dropped the IPC connection")
            self._connection = None
            self._damage.set()

    def _on_stream_closed(self, subscription: Subscription, stream: _Stream) -> None:
        if subscription.stream is stream:
            subscription.stream = None
            self._damage.set()

    async def _keep_up(self) -> MessagingError:
        while True:
            await self._damage.wait()
            self._damage.clear()
            try:
                await self._repair()
            except MessagingError as loss:
                return loss

    async def _repair(self) -> None:
        """Connect, and open what is closed, until all is well. Raises when lost for good."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience
        for pause in backoff(0.1, 15):
            try:
                if self._connection is None:
                    await self._connect()
            except MessagingError as error:
                if isinstance(error, _RefusedError) or clock() >= deadline:
                    raise
                self._trouble.report(error.message)
            else:
                if await self._open_all():
                    self._trouble.over()
                    return
                deadline = clock() + self._patience
            await asyncio.sleep(pause)

    async def _open_all(self) -> bool:
        """Open the closed subscriptions; return whether all are open."""
        for subscription in list(self._subscriptions):
            try:
                await self._open(subscription)
            except DownloaderError as error:
                self._trouble.report(error.message)
        return all(subscription.stream for subscription in self._subscriptions)


class Subscription:
    """An operation that keeps sending events, and who gets them, on the event loop's thread."""

    def __init__(
        self,
        new_operation: Callable[[GreengrassCoreIPCClient, StreamResponseHandler], Any],
        request: Shape,
        on_event: Callable[[Any], None],
        *,
        resource: str = "",
        optional: bool = False,
    ) -> None:
        """`resource` names it in errors. An `optional` one is dropped if the nucleus refuses it."""
        self.new_operation = new_operation
        self.request = request
        self.on_event = on_event
        self.resource = resource
        self.optional = optional
        self.stream: _Stream | None = None


class _Stream(StreamResponseHandler):  # type: ignore[misc]  # the SDK is not typed
    """One opening of a subscription. The SDK calls the handlers on its own thread."""

    def __init__(
        self, door: EventLoopDoor, on_event: Callable[[Any], None], on_closed: Callable[[], None]
    ) -> None:
        self._door = door
        self._on_event = on_event
        self._on_closed = on_closed
        self.operation: Any = None

    def close(self) -> None:
        if self.operation:
            self.operation.close()

    def on_stream_event(self, event: Shape) -> None:
        self._door.call(self._on_event, event)

    def on_stream_error(self, error: Exception) -> bool:
        logger.warning("The nucleus sent an event that cannot be read: %r", error)
        return False

    def on_stream_closed(self) -> None:
        self._door.call(self._on_closed)


class _Lifecycle(LifecycleHandler):  # type: ignore[misc]  # the SDK is not typed
    def __init__(self, door: EventLoopDoor, on_disconnected: Callable[[], None]) -> None:
        self._door = door
        self._on_disconnected = on_disconnected

    def on_disconnect(self, reason: Exception | None) -> None:
        self._door.call(self._on_disconnected)


class _RefusedError(MessagingError):
    def __init__(self) -> None:
        super().__init__(
            "The nucleus refuses the component's token, which it forgets when it restarts:"
            " the component must be started again."
        )


@contextlib.contextmanager
def _converted_errors(request: Shape, resource: str) -> Iterator[None]:
    operation = type(request).__name__.removesuffix("Request")
    try:
        yield
    except UnauthorizedError as error:
        raise DownloaderError(
            ErrorCode.ACCESS_DENIED,
            f"{operation} on {resource} is not allowed: give the component an accessControl policy"
            f" with the operation aws.greengrass#{operation} and a resource matching {resource}.",
            operation=operation,
            resource=resource,
        ) from error
    except GreengrassCoreIPCError:
        raise
    except SDK_ERRORS as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else repr(error)
        raise MessagingError(f"The nucleus did not carry out {operation}: {reason}") from error
