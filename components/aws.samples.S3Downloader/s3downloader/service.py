"""S3CommandService: commands come in, responses, events and status go out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .aio import TaskGroup
from .clock import Clock
from .contract import commands, decode_command, encode, peek, responses
from .errors import DownloaderError, ErrorCode
from .messaging.bus import Bus
from .outbox import Outbox
from .settings import Settings
from .store import Change, Store

__all__ = ["S3CommandService"]

log = logging.getLogger(__name__)

_MAX_COMMAND_BYTES = 128 * 1024


class S3CommandService:
    """Takes commands from a bus and has each carried out once; knows no transport."""

    def __init__(
        self,
        *,
        bus: Bus,
        topic: str,
        store: Store,
        outbox: Outbox,
        handle: Callable[[commands.Command], Awaitable[None]],
        settings: Callable[[], Settings],
        clock: Clock,
    ) -> None:
        """`handle` carries a command out, records its response, and raises to refuse it."""
        self._bus = bus
        self._topic = topic
        self._store = store
        self._outbox = outbox
        self._handle = handle
        self._settings = settings
        self._clock = clock
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def listen(self, group: TaskGroup) -> None:
        """Take commands from now on, each in a task of `group`."""

        def receive(topic: str, payload: bytes) -> None:
            group.create_task(self._answer(payload))

        await self._bus.subscribe(self._topic, receive)
        log.info("listening on %s", self._topic)

    async def _answer(self, payload: bytes) -> None:
        """Answer one payload, whatever it is."""
        command_id, name = peek(payload) if len(payload) <= _MAX_COMMAND_BYTES else (None, None)
        log.info("command %s %s", name or "unreadable", command_id or "without an id")
        while command_id in self._under_way:
            await asyncio.wait([self._under_way[command_id]])
        task = asyncio.current_task()
        assert task is not None
        if command_id is not None:
            self._under_way[command_id] = task
        try:
            await self._answer_once(payload, command_id, name)
        finally:
            if command_id is not None and self._under_way.get(command_id) is task:
                del self._under_way[command_id]

    async def _answer_once(self, payload: bytes, command_id: str | None, name: str | None) -> None:
        try:
            # Looked up without an id too, so that commands keep the order in which they came.
            given = await self._store.answer(command_id or "")
            if given is not None:
                self._outbox.respond(given)
                return
            await self._handle(decode_command(payload, max_bytes=_MAX_COMMAND_BYTES))
        except DownloaderError as error:
            await self._refuse(error, command_id, name)
        except Exception as error:
            log.exception("command %s failed", name)
            fault = DownloaderError(ErrorCode.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
            await self._refuse(fault, command_id, name)

    async def _refuse(
        self, error: DownloaderError, command_id: str | None, name: str | None
    ) -> None:
        log.info("refused %s %s: %s: %s", name, command_id, error.code.value, error.message)
        refusal = responses.refusal(error, command_id, name)
        payload = encode(refusal, self._settings().max_payload_bytes)
        if command_id is None:
            self._outbox.respond(payload)
            return
        try:
            answers = [(command_id, payload)]
            await self._outbox.record(Change(at=self._clock.now(), answers=answers))
        except DownloaderError as unrecorded:
            log.error("the refusal could not be recorded: %s", unrecorded)
            self._outbox.respond(payload)
