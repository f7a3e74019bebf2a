"""The connection to the nucleus over Greengrass IPC, kept up.

This uses the lower of the SDK's clients, where each operation is a stream of its own: it calls back
from the I/O thread, and needs no executor with further threads.
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
from ..sdk import SDK_ERRORS, EventLoopDoor, client_bootstrap
from .ipc_streams import Lifecycle, Stream, Subscription

__all__ = ["ConnectionCutError", "IpcClient", "Subscription"]

log = logging.getLogger(__name__)

logging.getLogger("awsiot.eventstreamrpc").setLevel(logging.CRITICAL)
# What it logs of each attempt to connect is in the errors that it raises.

CONNECT_TIMEOUT = 10
CONNECT_SPACING = 1
"""Seconds between attempts to connect, at most: that a token is refused shall be noticed soon."""

OPEN_TIMEOUT = 20
OPEN_SPACING = 10
"""Seconds that the nucleus may take to open a subscription, and at most between attempts: together
the time after which commands are heard when the network is back."""

LOOK_EVERY = 60
"""Seconds after which a subscription that the component can do without is asked for again."""

REQUEST_TIMEOUT = 30
CLOSE_TIMEOUT = 1

REFUSALS = 4
"""So many connections in a row, each closed before it was acknowledged, are a refusal. Fewer may be
chance: a nucleus that stops in the middle of a handshake."""

SETTLE = 0.1
"""Seconds between the notice of a damage and its repair: streams end together."""

_CLOSED = "AWS_IO_SOCKET_CLOSED"

SOCKET_VARIABLE = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
TOKEN_VARIABLE = "SVCUID"  # noqa: S105 - it names a token, and is none


class ConnectionCutError(MessagingError):
    """The connection ended while a request was under way: it may have been carried out, or not."""


class IpcClient:
    """The one IPC connection for everything that the component asks of its nucleus.

    A dropped connection is replaced, a subscription that is closed or was refused is asked for
    again, for as long as it takes. The nucleus is lost only when it refuses the component's token,
    as after a restart: then the component must be started again.
    """

    _door: EventLoopDoor
    _client: GreengrassCoreIPCClient
    _upkeep: asyncio.Task[MessagingError]

    def __init__(self) -> None:
        """Take the socket and the token from the environment, where the nucleus puts them."""
        try:
            self._socket, self._token = os.environ[SOCKET_VARIABLE], os.environ[TOKEN_VARIABLE]
        except KeyError as error:
            message = f"{error.args[0]} is not set: only a Greengrass nucleus can start this"
            raise DownloaderError(ErrorCode.INVALID_FIELD, message) from None
        self._connection: Connection | None = None
        self._subscriptions: list[Subscription] = []
        self._damage = asyncio.Event()
        self._log_once = LogOnce(log)

    async def __aenter__(self) -> IpcClient:
        """Connect, once the nucleus is there. Raises MessagingError if it refuses the token."""
        self._door = EventLoopDoor()
        await self._connect()
        self._upkeep = background(self._maintain())
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
        comes, and of these ConnectionCutError when the connection ended meanwhile; an operation's
        other errors as the SDK models them (GreengrassCoreIPCError).
        """
        with _converted_errors(request, resource):
            operation = new_operation(self._client)
            return await self._response(operation, request, within=REQUEST_TIMEOUT)

    async def subscribe(self, subscription: Subscription) -> None:
        """Open a subscription, now or as soon as the nucleus can.

        Raises ACCESS_DENIED unless it is optional, and has then forgotten it.
        """
        self._subscriptions.append(subscription)
        try:
            await self._open(subscription)
        except MessagingError as error:
            self._log_once.report("%s", error.message)
            self._damage.set()
        except DownloaderError:
            self._subscriptions.remove(subscription)
            raise

    async def renew(self, *subscriptions: Subscription) -> None:
        """Close subscriptions, then open them again: two at once would deliver twice."""
        for subscription in subscriptions:
            if stream := subscription.stream:
                subscription.stream = None
                stream.close()
        if not await self._open_all(subscriptions):
            self._damage.set()

    async def wait_lost(self) -> MessagingError:
        """Return once the nucleus is lost for good, with the reason."""
        return await asyncio.shield(self._upkeep)

    async def pause(self, seconds: float) -> None:
        """Return after that time. Raises MessagingError once the nucleus is lost for good."""
        if (await asyncio.wait([self._upkeep], timeout=seconds))[0]:
            raise self._upkeep.result()

    async def _response(self, operation: Any, request: Shape, *, within: float) -> Any:
        operation.activate(request)
        return await self._door.result(operation.get_response(), within=within)

    async def _open(self, subscription: Subscription) -> None:
        async with subscription.opening:
            if subscription.stream is None and subscription in self._subscriptions:
                await self._open_closed(subscription)

    async def _open_closed(self, subscription: Subscription) -> None:
        stream = subscription.stream = Stream(
            self._door, subscription.on_event, lambda: self._on_stream_closed(subscription, stream)
        )
        try:
            with _converted_errors(subscription.request, subscription.resource):
                stream.operation = subscription.new_operation(self._client, stream)
                await self._response(stream.operation, subscription.request, within=OPEN_TIMEOUT)
        except (DownloaderError, GreengrassCoreIPCError) as error:
            if subscription.stream is stream:
                subscription.stream = None
            stream.close()
            message = f"the nucleus gives no subscription to {subscription.resource}: {error!r}"
            if subscription.optional:
                subscription.trouble.report("%s", message)
            elif isinstance(error, DownloaderError):
                raise
            else:
                raise MessagingError(message) from error
        else:
            subscription.trouble.reset()

    async def _connect(self) -> None:
        """Connect, however long the nucleus is away. Raises MessagingError if it refuses the token.

        Nucleus lite refuses a token by closing the socket without a word. A socket that is not
        there, that nobody listens at, or where nothing is said, is a nucleus that starts.
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
                self._log_once.report("no nucleus answers at %s: %r", self._socket, error)
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
        lifecycle = Lifecycle(self._door, lambda: self._on_disconnected(connection))
        try:
            await self._door.result(connection.connect(lifecycle), within=CONNECT_TIMEOUT)
        except BaseException:
            self._connection = None
            connection.close()
            raise
        log.info("connected to the nucleus at %s", self._socket)

    def _on_disconnected(self, connection: Connection) -> None:
        if self._connection is connection:
            self._log_once.report("the nucleus dropped the IPC connection")
            self._connection = None
            self._damage.set()

    def _on_stream_closed(self, subscription: Subscription, stream: Stream) -> None:
        if subscription.stream is stream:
            subscription.stream = None
            self._damage.set()

    async def _maintain(self) -> MessagingError:
        """Repair what is damaged, again and again; return the reason once the nucleus is lost."""
        pauses, whole = backoff(SETTLE, OPEN_SPACING), True
        while True:
            with contextlib.suppress(TimeoutError):
                async with timeout(LOOK_EVERY if whole else next(pauses)):
                    await self._damage.wait()
            await asyncio.sleep(SETTLE)
            self._damage.clear()
            try:
                if self._connection is None:
                    await self._connect()
                whole = await self._open_all(self._subscriptions)
            except MessagingError as loss:
                return loss
            except Exception:
                log.exception("the connection to the nucleus could not be repaired")
                whole = False
            if whole:
                self._log_once.reset()
                pauses = backoff(SETTLE, OPEN_SPACING)

    async def _open_all(self, subscriptions: Iterable[Subscription]) -> bool:
        """Open those that are closed, side by side; return whether none is refused."""
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
        "the nucleus refuses the component's token, which it forgets when it restarts:"
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
        reason = "no answer in time" if isinstance(error, TimeoutError) else repr(error)
        raise MessagingError(f"the nucleus did not carry out {operation}: {reason}") from error
