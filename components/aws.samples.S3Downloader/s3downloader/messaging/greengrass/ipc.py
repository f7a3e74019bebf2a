"""Keeps up the connection to the nucleus over Greengrass IPC.

It uses the SDK's low-level client, in which each operation is a stream of its own. That client
calls back from the I/O thread, and needs no executor with more threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from awscrt.io import SocketDomain, SocketOptions
from awsiot.eventstreamrpc import (
    AccessDeniedError,
    Connection,
    MessageAmendment,
    Shape,
    StreamClosedError,
)
from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient
from awsiot.greengrasscoreipc.model import GreengrassCoreIPCError, UnauthorizedError

from ...core.aio import background, timeout
from ...core.backoff import backoff
from ...core.errors import DownloaderError, ErrorCode
from ...core.log_once import LogOnce
from ..bus import MessagingError
from ..sdk import SDK_ERRORS, EventLoopBridge, client_bootstrap
from .ipc_streams import Lifecycle, Stream, Subscription

__all__ = ["ConnectionCutError", "IpcClient", "Subscription"]

log = logging.getLogger(__name__)

logging.getLogger("awsiot.eventstreamrpc").setLevel(logging.CRITICAL)
# Its log lines about attempts to connect repeat the errors that it raises.

CONNECT_TIMEOUT = 10
CONNECT_SPACING = 1
"""Maximum seconds between attempts to connect. Short, to detect soon that the token is refused."""

OPEN_TIMEOUT = 20
"""Seconds that the nucleus may take to open a subscription."""

OPEN_SPACING = 10
"""Maximum seconds between attempts to open subscriptions.

With OPEN_TIMEOUT, commands are received at most 30 seconds after the network is back.
"""

OPTIONAL_INTERVAL = 60
"""Seconds between attempts to open a closed optional subscription."""

REQUEST_TIMEOUT = 30
CLOSE_TIMEOUT = 1

REFUSALS = 4
"""Connections in a row that must be closed during the handshake to count as a refused token.

Fewer may have another cause, such as a nucleus that stops during a handshake.
"""

REPAIR_DELAY = 0.1
"""Seconds from the detection of a lost stream to its repair, because streams end together."""

_CLOSED = "AWS_IO_SOCKET_CLOSED"

SOCKET_VARIABLE = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
TOKEN_VARIABLE = "SVCUID"  # noqa: S105 - the name of a variable, not a token


class ConnectionCutError(MessagingError):
    """The connection ended during a request. The request may or may not have been carried out."""


class IpcClient:
    """The component's one IPC connection to its nucleus.

    A lost connection is made again, and a closed or refused subscription is opened again, for as
    long as it takes. The nucleus is lost for good only if it refuses the component's token, as it
    does after its own restart: then the component must be started again.
    """

    _bridge: EventLoopBridge
    _client: GreengrassCoreIPCClient
    _upkeep: asyncio.Task[MessagingError]

    def __init__(self) -> None:
        """Take the socket's path and the token from the environment, where the nucleus puts them.

        Raises INVALID_FIELD if one is not set.
        """
        try:
            self._socket, self._token = os.environ[SOCKET_VARIABLE], os.environ[TOKEN_VARIABLE]
        except KeyError as error:
            message = (
                f"{error.args[0]} is not set: start this as a component of a Greengrass nucleus"
            )
            raise DownloaderError(ErrorCode.INVALID_FIELD, message) from None
        self._connection: Connection | None = None
        self._subscriptions: list[Subscription] = []
        self._repair_needed = asyncio.Event()
        self._log_once = LogOnce(log)

    async def __aenter__(self) -> IpcClient:
        """Connect when the nucleus responds. Raises MessagingError if it refuses the token."""
        self._bridge = EventLoopBridge()
        await self._connect()
        self._upkeep = background(self._maintain())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._upkeep.cancel()
        if connection := self._connection:
            self._connection = None
            with contextlib.suppress(*SDK_ERRORS):
                await self._bridge.result(connection.close(), within=CLOSE_TIMEOUT)

    async def request(
        self,
        new_operation: Callable[[GreengrassCoreIPCClient], Any],
        request: Shape,
        *,
        resource: str = "",
    ) -> Any:
        """Carry out one operation and return its response. `resource` names its object in errors.

        Raises ACCESS_DENIED, with what `accessControl` lacks; MessagingError if no response comes;
        its subclass ConnectionCutError if the connection ended meanwhile; and the operation's other
        errors as the SDK models them (GreengrassCoreIPCError).
        """
        with _converted_errors(request, resource):
            operation = new_operation(self._client)
            return await self._response(operation, request, within=REQUEST_TIMEOUT)

    async def subscribe(self, subscription: Subscription) -> None:
        """Open a subscription and keep it open. If the nucleus cannot open it now, try again later.

        Raises ACCESS_DENIED if it is not allowed and not optional. Then it is not tried again.
        """
        self._subscriptions.append(subscription)
        try:
            await self._open(subscription)
        except MessagingError as error:
            self._log_once.report("%s", error.message)
            self._repair_needed.set()
        except DownloaderError:
            self._subscriptions.remove(subscription)
            raise

    async def renew(self, *subscriptions: Subscription) -> None:
        """Close subscriptions, then open them again. Both open would deliver each message twice."""
        for subscription in subscriptions:
            if stream := subscription.stream:
                subscription.stream = None
                stream.close()
        if not await self._open_all(subscriptions):
            self._repair_needed.set()

    async def wait_lost(self) -> MessagingError:
        """Wait until the nucleus is lost for good, and return the reason."""
        return await asyncio.shield(self._upkeep)

    async def pause(self, seconds: float) -> None:
        """Return after `seconds`. Raises MessagingError if the nucleus is lost for good."""
        if (await asyncio.wait([self._upkeep], timeout=seconds))[0]:
            raise self._upkeep.result()

    async def _response(self, operation: Any, request: Shape, *, within: float) -> Any:
        operation.activate(request)
        return await self._bridge.result(operation.get_response(), within=within)

    async def _open(self, subscription: Subscription) -> None:
        async with subscription.opening:
            if subscription.stream is None and subscription in self._subscriptions:
                await self._open_closed(subscription)

    async def _open_closed(self, subscription: Subscription) -> None:
        stream = subscription.stream = Stream(
            self._bridge,
            subscription.on_event,
            lambda: self._on_stream_closed(subscription, stream),
        )
        try:
            with _converted_errors(subscription.request, subscription.resource):
                stream.operation = subscription.new_operation(self._client, stream)
                await self._response(stream.operation, subscription.request, within=OPEN_TIMEOUT)
        except (DownloaderError, GreengrassCoreIPCError) as error:
            if subscription.stream is stream:
                subscription.stream = None
            stream.close()
            message = f"the nucleus opens no subscription to {subscription.resource}: {error!r}"
            if subscription.optional:
                subscription.log_once.report("%s", message)
            elif isinstance(error, DownloaderError):
                raise
            else:
                raise MessagingError(message) from error
        else:
            subscription.log_once.reset()

    async def _connect(self) -> None:
        """Try to connect until it succeeds. Raises MessagingError if the token is refused.

        Nucleus lite refuses a token by closing the socket without a message. If the socket does not
        exist, refuses connections or does not respond, the nucleus is still starting.
        """
        closed = 0
        for pause in backoff(0.05, CONNECT_SPACING):
            try:
                await self._connect_once()
                return
            except AccessDeniedError as error:
                raise _refused() from error
            except SDK_ERRORS as error:
                closed = closed + 1 if getattr(error, "name", "") == _CLOSED else 0
                if closed == REFUSALS:
                    raise _refused() from error
                self._log_once.report("no nucleus responds at %s: %r", self._socket, error)
            await asyncio.sleep(pause)

    async def _connect_once(self) -> None:
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
        lifecycle = Lifecycle(self._bridge, lambda: self._on_disconnected(connection))
        try:
            await self._bridge.result(connection.connect(lifecycle), within=CONNECT_TIMEOUT)
        except BaseException:
            self._connection = None
            connection.close()
            raise
        log.info("connected to the nucleus at %s", self._socket)

    def _on_disconnected(self, connection: Connection) -> None:
        if self._connection is connection:
            self._log_once.report("the nucleus closed the IPC connection")
            self._connection = None
            self._repair_needed.set()

    def _on_stream_closed(self, subscription: Subscription, stream: Stream) -> None:
        if subscription.stream is stream:
            subscription.stream = None
            self._repair_needed.set()

    async def _maintain(self) -> MessagingError:
        """Restore connection and subscriptions. Return the reason when the nucleus is lost."""
        pauses, healthy = backoff(REPAIR_DELAY, OPEN_SPACING), True
        while True:
            with contextlib.suppress(TimeoutError):
                async with timeout(OPTIONAL_INTERVAL if healthy else next(pauses)):
                    await self._repair_needed.wait()
            await asyncio.sleep(REPAIR_DELAY)
            self._repair_needed.clear()
            try:
                if self._connection is None:
                    await self._connect()
                healthy = await self._open_all(self._subscriptions)
            except MessagingError as loss:
                return loss
            except Exception:
                log.exception("the connection to the nucleus could not be restored")
                healthy = False
            if healthy:
                self._log_once.reset()
                pauses = backoff(REPAIR_DELAY, OPEN_SPACING)

    async def _open_all(self, subscriptions: Iterable[Subscription]) -> bool:
        """Open closed subscriptions concurrently. Return whether no required one was refused."""
        opening = [self._open(subscription) for subscription in subscriptions]
        outcomes = await asyncio.gather(*opening, return_exceptions=True)
        refusals = {str(outcome) for outcome in outcomes if isinstance(outcome, DownloaderError)}
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, DownloaderError):
                raise outcome
        if refusals:
            self._log_once.report("%s", "; ".join(sorted(refusals)))
        return not refusals


def _refused() -> MessagingError:
    return MessagingError(
        "the nucleus refuses the component's token, because it was restarted:"
        " the component must be started again"
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
            f" with the operation aws.greengrass#{operation} and a resource matching {resource}",
            operation=operation,
            resource=resource,
        ) from error
    except GreengrassCoreIPCError:
        raise
    except StreamClosedError as error:
        message = f"the connection to the nucleus ended during {operation}"
        raise ConnectionCutError(message) from error
    except SDK_ERRORS as error:
        reason = "no response in time" if isinstance(error, TimeoutError) else repr(error)
        raise MessagingError(f"the nucleus did not carry out {operation}: {reason}") from error
