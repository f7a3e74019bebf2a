"""S3CommandService: commands come in, responses, events and status go out."""

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

__all__ = ["AT_ONCE", "S3CommandService"]

log = logging.getLogger(__name__)

_MAX_COMMAND_BYTES = 128 * 1024
_LISTEN_AGAIN = 15.0  # seconds after messaging refused to subscribe
_MOST_TAKEOVERS = 4
"""Processes that carry out what others left: a command that ends each of them is given up."""

AT_ONCE = 128
"""Commands that are carried out side by side; the others wait in the inbox."""


class S3CommandService:
    """Takes commands from a bus and has each carried out once; knows no transport."""

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
        """`handle` carries a command out, records its response, and raises to refuse it."""
        self._bus = bus
        self._topic = topic
        self._store = store
        self._inbox = inbox
        self._outbox = outbox
        self._handle = handle
        self._settings = settings
        self._clock = clock
        self._warn = warn
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._listening = False
        self._arriving: set[asyncio.Task[None]] = set()

    async def run(self, on_tried: Callable[[], None], on_listening: Callable[[], None]) -> None:
        """Take commands in and carry them out, in their order, until cancelled.

        What is in the inbox is carried out at once. `on_tried` is called when the bus was asked to
        subscribe, whatever came of it; `on_listening` once it has subscribed.
        """
        self._listening = True
        try:
            async with TaskGroup() as group:
                group.create_task(self._carry_out(group))
                await self._listen(on_tried)
                on_listening()
                on_tried()
        finally:
            self._listening = False
            if self._arriving:  # what is recorded is acknowledged: else it would come again
                await asyncio.wait(self._arriving)

    async def _listen(self, on_tried: Callable[[], None]) -> None:
        """Subscribe as soon as messaging lets it: a policy may be mended while it runs."""
        reported = ""
        while True:
            try:
                await self._bus.subscribe(self._topic, self._receive)
                break
            except DownloaderError as error:
                if error.message != reported:
                    self._warn(f"no command is heard: {error.message}", error.code)
                reported = error.message
            on_tried()
            await self._clock.sleep(_LISTEN_AGAIN)
        log.info("listening on %s", self._topic)

    async def _carry_out(self, group: TaskGroup) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        while True:
            await slots.acquire()
            task = group.create_task(self._process(await self._inbox.take()))
            task.add_done_callback(lambda _: slots.release())

    def _receive(self, message: Message) -> asyncio.Future[None]:
        """Take a command in; what is returned is done once it may be acknowledged.

        When the process is about to end it never is, so that the next one gets the command.
        """
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._listening:
            task = background(self._take_in(message, safe))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
        return safe

    async def _take_in(self, message: Message, safe: asyncio.Future[None]) -> None:
        command_id = self._peek(message.payload)[0] or new_command_id()
        acknowledge = partial(safe.set_result, None)
        if len(message.payload) > _MAX_COMMAND_BYTES:  # it is refused, and need not be kept
            self._inbox.put_unrecorded(Delivery(command_id, message.payload, None, acknowledge))
            return
        try:
            new = await self._inbox.put(command_id, message.payload, retained=message.retained)
        except DownloaderError as error:
            log.error("the command %s is not recorded: %s", command_id, error)
            self._inbox.put_unrecorded(Delivery(command_id, message.payload, error, acknowledge))
            return
        acknowledge()
        if message.retained:
            self._warn_retained(command_id, new)

    def _peek(self, payload: bytes) -> tuple[str | None, str | None]:
        """Return the id and the name of a command, each as far as it can be read."""
        return peek(payload) if len(payload) <= _MAX_COMMAND_BYTES else (None, None)

    def _warn_retained(self, command_id: str, new: bool) -> None:
        what = "is carried out this once" if new else "was carried out before, and is ignored"
        self._warn(
            f"the broker retains the command {command_id}, which {what}; publish commands without"
            f" the retain flag, and an empty retained message to {self._topic} to remove this one",
            ErrorCode.RETAINED_COMMAND,
        )

    async def _process(self, delivery: Delivery) -> None:
        """Answer one command, whatever it is, after earlier ones with the same id."""
        command_id = delivery.command_id
        while command_id in self._under_way:
            await asyncio.wait([self._under_way[command_id]])
        task = asyncio.current_task()
        assert task is not None
        self._under_way[command_id] = task
        try:
            await self._process_once(delivery)
            delivery.on_answered()
        finally:
            if self._under_way.get(command_id) is task:
                del self._under_way[command_id]

    async def _process_once(self, delivery: Delivery) -> None:
        command_id = delivery.command_id
        _, name = self._peek(delivery.payload)
        log.info("command %s %s", name or "unreadable", command_id)
        try:
            # Looked up without an id too, so that commands keep the order in which they came.
            given = await self._store.response(command_id)
            if given is not None:
                await self._outbox.respond(command_id, given)
                return
            await self._handle(self._decode(delivery))
        except DownloaderError as error:
            await self._refuse(error, command_id, name)
        except Exception as error:
            log.exception("command %s failed", name)
            fault = DownloaderError(ErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
            await self._refuse(fault, command_id, name)

    def _decode(self, delivery: Delivery) -> commands.Command:
        """Return what is to be done; what would not outlive the process changes nothing."""
        command = decode_command(
            delivery.payload, max_bytes=_MAX_COMMAND_BYTES, command_id=delivery.command_id
        )
        if delivery.unrecorded and not commands.only_reads(command):
            raise delivery.unrecorded
        if delivery.takeovers > _MOST_TAKEOVERS:
            raise DownloaderError(
                ErrorCode.INTERNAL_ERROR,
                f"the downloader has ended {delivery.takeovers} times before this command was"
                " answered, which may be why; its log may tell more",
            )
        return command

    async def _refuse(self, error: DownloaderError, command_id: str, name: str | None) -> None:
        log.info("refused %s %s: %s: %s", name, command_id, error.code.value, error.message)
        given_id = None if command_id.startswith(GENERATED) else command_id
        refusal = responses.refusal(error, given_id, name)
        payload = encode(refusal, self._settings().max_payload_bytes)
        await self._outbox.respond(command_id, payload)
