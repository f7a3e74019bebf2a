"""Receives commands and has each carried out once, in the order of arrival."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ..contract import commands, decode_command, encode, new_command_id, peek, responses
from ..core.aio import TaskGroup, background
from ..core.clock import Clock
from ..core.errors import DownloaderError, ErrorCode
from ..core.records import GENERATED
from ..core.settings import Settings
from ..messaging.bus import Bus, Message
from ..store import Store
from ..store.inbox import Delivery, Inbox
from ..store.outbox import Outbox

__all__ = ["MAX_CONCURRENT", "S3CommandService"]

log = logging.getLogger(__name__)

_MAX_COMMAND_BYTES = 128 * 1024
_SUBSCRIBE_INTERVAL = 15.0  # seconds between attempts, if subscribing is refused
_MAX_TAKEOVERS = 4
"""How often another process takes an unanswered command over. After that it is refused."""

MAX_CONCURRENT = 128
"""Commands that are carried out concurrently. The others wait in the inbox."""


class S3CommandService:
    """Receives commands from a bus, and has each carried out once. It knows no transport."""

    def __init__(
        self,
        *,
        bus: Bus,
        topic: str,
        store: Store,
        inbox: Inbox,
        outbox: Outbox,
        handle: Callable[[commands.Command], Awaitable[None]],
        settings: Callable[[], Settings],
        clock: Clock,
        warn: Callable[[str, ErrorCode], None],
    ) -> None:
        """`handle` carries a command out and records its response.

        It raises DownloaderError to refuse the command. `warn` publishes a notice.
        """
        self._bus = bus
        self._topic = topic
        self._store = store
        self._inbox = inbox
        self._outbox = outbox
        self._handle = handle
        self._settings = settings
        self._clock = clock
        self._warn = warn
        self._running: dict[str, asyncio.Task[None]] = {}
        self._accepting = False
        self._arriving: set[asyncio.Task[None]] = set()

    async def run(self, on_attempted: Callable[[], None], on_listening: Callable[[], None]) -> None:
        """Receive commands and carry them out, in the order of arrival, until cancelled.

        Commands in the inbox are carried out immediately. `on_attempted` is called after each
        attempt to subscribe, and `on_listening` when the bus has subscribed.
        """
        self._accepting = True
        try:
            async with TaskGroup() as group:
                group.create_task(self._carry_out(group))
                await self._subscribe(on_attempted)
                on_listening()
                on_attempted()
        finally:
            self._accepting = False
            if self._arriving:  # commands that are recorded must be acknowledged before the end
                await asyncio.wait(self._arriving)

    async def _subscribe(self, on_attempted: Callable[[], None]) -> None:
        """Subscribe to the commands. If that is refused, repeat it until the policy allows it."""
        reported = ""
        while True:
            try:
                await self._bus.subscribe(self._topic, self._receive)
                break
            except DownloaderError as error:
                if error.message != reported:
                    self._warn(f"commands cannot be received: {error.message}", error.code)
                reported = error.message
            on_attempted()
            await self._clock.sleep(_SUBSCRIBE_INTERVAL)
        log.info("listening on %s", self._topic)

    async def _carry_out(self, group: TaskGroup) -> None:
        slots = asyncio.Semaphore(MAX_CONCURRENT)
        while True:
            await slots.acquire()
            task = group.create_task(self._process(await self._inbox.take()))
            task.add_done_callback(lambda _: slots.release())

    def _receive(self, message: Message) -> asyncio.Future[None]:
        """Receive a command. The returned future is done when it may be acknowledged.

        While the process ends, new commands are not acknowledged, so that the next process receives
        them.
        """
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._accepting:
            task = background(self._record(message, recorded))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
        return recorded

    async def _record(self, message: Message, recorded: asyncio.Future[None]) -> None:
        command_id = self._peek(message.payload)[0] or new_command_id()
        acknowledge = partial(recorded.set_result, None)
        if len(message.payload) > _MAX_COMMAND_BYTES:  # it will be refused, whatever it is
            self._inbox.put_unrecorded(Delivery(command_id, message.payload, None, acknowledge))
            return
        try:
            new = await self._inbox.put(command_id, message.payload, retained=message.retained)
        except DownloaderError as error:
            log.error("the command %s could not be recorded: %s", command_id, error)
            self._inbox.put_unrecorded(Delivery(command_id, message.payload, error, acknowledge))
            return
        acknowledge()
        if message.retained:
            self._warn_retained(command_id, new)

    def _peek(self, payload: bytes) -> tuple[str | None, str | None]:
        """Return the id and the name of a command, or None for one that cannot be decoded."""
        return peek(payload) if len(payload) <= _MAX_COMMAND_BYTES else (None, None)

    def _warn_retained(self, command_id: str, new: bool) -> None:
        what = "is carried out now" if new else "was carried out before and is ignored"
        self._warn(
            f"the broker retains the command {command_id}, which {what}; publish commands without"
            f" the retain flag, and an empty retained message to {self._topic} to remove this one",
            ErrorCode.RETAINED_COMMAND,
        )

    async def _process(self, delivery: Delivery) -> None:
        """Process one command. Wait first for earlier commands with the same id."""
        command_id = delivery.command_id
        while command_id in self._running:
            await asyncio.wait([self._running[command_id]])
        task = asyncio.current_task()
        assert task is not None
        self._running[command_id] = task
        try:
            await self._process_once(delivery)
            delivery.on_answered()
        finally:
            if self._running.get(command_id) is task:
                del self._running[command_id]

    async def _process_once(self, delivery: Delivery) -> None:
        """Send the response recorded for this id, or carry the command out, or refuse it."""
        command_id = delivery.command_id
        _, name = self._peek(delivery.payload)
        log.info("command %s %s", name or "unreadable", command_id)
        try:
            # Also for a generated id, which has no response: all commands then wait for the same
            # number of database operations, and keep their order.
            recorded = await self._store.response(command_id)
            if recorded is not None:
                await self._outbox.respond(command_id, recorded)
                return
            await self._handle(self._decode(delivery))
        except DownloaderError as error:
            await self._refuse(error, command_id, name)
        except Exception as error:
            log.exception("command %s failed", name)
            internal = DownloaderError(ErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
            await self._refuse(internal, command_id, name)

    def _decode(self, delivery: Delivery) -> commands.Command:
        """Return the decoded command. Raises DownloaderError to refuse it.

        A command that could not be recorded is refused, unless it only reads.
        """
        command = decode_command(
            delivery.payload, max_bytes=_MAX_COMMAND_BYTES, command_id=delivery.command_id
        )
        if delivery.unrecorded and not commands.only_reads(command):
            raise delivery.unrecorded
        if delivery.takeovers > _MAX_TAKEOVERS:
            raise DownloaderError(
                ErrorCode.INTERNAL_ERROR,
                f"the downloader has ended {delivery.takeovers} times before this command was"
                " answered, perhaps because of it; see the downloader's log",
            )
        return command

    async def _refuse(self, error: DownloaderError, command_id: str, name: str | None) -> None:
        log.info("refused %s %s: %s: %s", name, command_id, error.code.value, error.message)
        given_id = None if command_id.startswith(GENERATED) else command_id
        refusal = responses.refusal(error, given_id, name)
        payload = encode(refusal, self._settings().max_payload_bytes)
        await self._outbox.respond(command_id, payload)
