"""The real daemon on the in-memory bus, with the real store, for races and failing disks.

Two things are stand-ins, because a race needs them to stand still where the test says: the source
and the engine. Nothing else is: the store is the real one, on an SQLite that can run out of space.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec

from s3downloader.app.daemon import Daemon
from s3downloader.core.clock import Clock, SystemClock
from s3downloader.core.errors import TRANSIENT
from s3downloader.core.records import State
from s3downloader.core.settings import LiveSettings
from s3downloader.engines.base import Engine as RealEngine
from s3downloader.messaging.bus import Message as BusMessage
from s3downloader.sources.registry import Sources
from s3downloader.store import Change

from ..messaging.memory import Hub, MemoryBus
from ..support import PATIENCE, ManualClock, eventually
from .disk import Disk, Gate, Gates
from .stand_ins import Engine, Source

Message = dict[str, Any]

NULL = msgspec.Raw(b"null")
"""A null as the value of a field of a command."""


def reaches(state: State) -> Callable[[Change], bool]:
    """Tell of a change whether it brings a download into `state`."""
    return lambda change: any(download.state is state for download in change.downloads)


class Harness:
    """A device to start and stop, and the operator who hears it and sends it commands.

    What the daemon is made with may be changed until it is started.
    """

    def __init__(self, directory: Path, operator: MemoryBus, hub: Hub) -> None:
        self.directory = directory
        self.downloads = directory / "downloads"
        self.source = Source()
        self.engine = Engine()
        self.real: tuple[Sources, RealEngine] | None = None
        """What runs instead of these two, in a test that needs nothing to stand still."""
        self.disk = Disk()
        self.gates: Gates = {}
        self.clock: Clock = SystemClock()
        self.transient = TRANSIENT
        self.configuration: dict[str, Any] = {
            "DownloadDir": str(self.downloads),
            "AllowedDestinations": str(self.downloads),
            "StateDir": str(directory / "state"),
            "MinFreeBytes": 0,
            "ProcessInterval": 3_600,
            "IdleProcessInterval": 3_600,
            "StatusMinInterval": 0,
        }
        self.component: dict[str, Any] = {}
        """The component's configuration in the nucleus; what is above goes over it."""
        self.messages: list[Message] = []
        """Responses and events."""
        self.statuses: list[Message] = []
        self.notices: list[Message] = []
        self._operator = operator
        self.hub = hub
        self._numbers = itertools.count(1)
        self._daemon: Daemon | None = None
        self._serving: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        await self._operator.subscribe(
            "s3downloader/edge/responses",
            lambda received: self.messages.append(_decode(received.payload)),
        )
        await self._operator.subscribe("s3downloader/edge/status", self._hear_status)

    def _hear_status(self, received: BusMessage) -> None:
        message = _decode(received.payload)
        (self.notices if "level" in message else self.statuses).append(message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the daemon; at the end it must be up still, and stop cleanly when cancelled."""
        received = len(self.statuses)
        sources, engine = self.real or (self.source.sources, self.engine)
        self._daemon = Daemon(
            thing_name="edge",
            live=LiveSettings(
                arguments=self.configuration, environment={}, configuration=self.component
            ),
            bus=MemoryBus(self.hub),
            shadow=None,
            sources=sources,
            engine=engine,
            clock=self.clock,
            transient=self.transient,
        )
        self._serving = asyncio.create_task(self._daemon.serve())
        try:
            await self.until(lambda: len(self.statuses) > received)
            yield
            self.check_up()
        finally:
            self._serving.cancel()
            await asyncio.wait([self._serving], timeout=PATIENCE)
        assert self._serving.cancelled()

    def reconfigure(self, **component: Any) -> None:
        """Change the component's configuration while the daemon runs."""
        assert self._daemon
        self.component |= component
        self._daemon.reconfigure(self.component)

    def check_up(self) -> None:
        """Raise what ended the daemon, if it has ended; fail if it told of a fault of its own."""
        assert self._serving
        if self._serving.done():
            self._serving.result()
            raise AssertionError("the daemon has ended")
        for notice in self.notices:
            assert notice["error_code"] not in ("internal_error", "invalid_state"), notice

    async def until(self, probe: Callable[[], Any]) -> Any:
        """Return the first truthy value of `probe`; the daemon must stay up meanwhile."""

        def probe_up() -> Any:
            self.check_up()
            return probe()

        return await eventually(probe_up)

    async def while_time_passes(self, probe: Callable[[], Any]) -> Any:
        """The same, while a ManualClock goes on."""
        clock = self.clock
        assert isinstance(clock, ManualClock)

        def wake_and_probe() -> Any:
            clock.wake()
            return probe()

        return await self.until(wake_and_probe)

    async def pass_time(self, seconds: float) -> None:
        """Let so much time of a ManualClock pass, once whoever has seen a change sleeps again."""
        clock = self.clock
        assert isinstance(clock, ManualClock)
        await _turns()
        clock.advance(seconds)

    def hold(self, step: str, holds: Callable[[Any], bool]) -> Gate:
        """Hold those who come to a step of the store with what `holds` is true of."""
        gate = Gate()
        self.gates[step] = (holds, gate)
        return gate

    async def send(self, command: str, **fields: Any) -> str:
        """Send a command, with an id unless `command_id` is given or None; return the id."""
        fields.setdefault("command_id", f"c{next(self._numbers)}")
        given = {name: value for name, value in fields.items() if value is not None}
        payload = msgspec.json.encode({"command": command, **given})
        await self._operator.publish("s3downloader/edge/commands", payload, qos=1)
        return str(given.get("command_id"))

    async def send_and_wait(self, command: str, **fields: Any) -> str:
        """The same; return when the command has come as far as it can while a gate is closed."""
        fields["command_id"] = f"c{next(self._numbers)}"
        looked_up = self.hold("response", lambda command_id: command_id == fields["command_id"])
        await self.send(command, **fields)
        await looked_up.reached()
        looked_up.open()
        await _turns()
        return str(fields["command_id"])

    async def ask(self, command: str, **fields: Any) -> Message:
        """Send a command and return the response."""
        return (await self.responses(await self.send(command, **fields)))[0]

    async def download(self, key: str, download_id: str, below: str = "", **fields: Any) -> Message:
        """Ask for a download into the directory `below` DownloadDir."""
        destination = str(self.downloads / below)
        fields = {"bucket": "models", "key": key, "download_id": download_id, **fields}
        return await self.ask("download", destination=destination, **fields)

    async def responses(self, command_id: str, count: int = 1) -> list[Message]:
        """Return the responses to a command, once there are so many."""

        def given() -> list[Message]:
            answered = [
                m for m in self.messages if m.get("command_id") == command_id and "event" not in m
            ]
            return answered if len(answered) >= count else []

        found: list[Message] = await self.until(given)
        return found

    def events(self, download_id: str) -> list[str]:
        """Return the names of a download's events so far."""
        return [
            m["event"] for m in self.messages if "event" in m and m["download_id"] == download_id
        ]

    def event(self, name: str, download_id: str) -> Message | None:
        """Return the latest event of that name, if there was one."""
        found = [
            m
            for m in self.messages
            if (m.get("event"), m.get("download_id")) == (name, download_id)
        ]
        return found[-1] if found else None

    async def wait_for_event(self, name: str, *download_ids: str) -> Message:
        """Return the event of that name of the last of these downloads, once all have it."""
        for download_id in download_ids:
            event = await self.until(partial(self.event, name, download_id))
        return cast(Message, event)

    async def completed(self, *download_ids: str) -> Message:
        """The same for the event of their completion."""
        return await self.wait_for_event("download_completed", *download_ids)

    def status_of(self, download_id: str) -> Message:
        """Return what the latest status tells of a download."""
        downloads = self.statuses[-1]["downloads"]
        return next((d for d in downloads if d["download_id"] == download_id), {"status": None})

    async def becomes(self, state: State, *download_ids: str) -> None:
        """Return once the status tells that these downloads are in `state`."""
        await self.until(
            lambda: {self.status_of(d)["status"] for d in download_ids} == {state.value}
        )

    async def listed(self) -> dict[str, str]:
        """Return the state of each download."""
        response = await self.ask("list")
        return {d["download_id"]: d["status"] for d in response["downloads"]}

    def files(self, below: str = "") -> set[str]:
        """Return what has been published, and what is left over, below DownloadDir."""
        root = self.downloads / below
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _decode(payload: bytes) -> Message:
    return msgspec.json.decode(payload, type=Message)


async def _turns() -> None:
    """Let the loop go on as far as it comes without the store."""
    for _ in range(20):
        await asyncio.sleep(0)
