"""Runs the real daemon with the real store on the in-memory bus, for races and failing disks.

Source and engine are stand-ins, because a race needs them to stop where the test says. The store is
the real one, on an SQLite whose disk can be full.
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
"""A null as the value of a command's field."""


def reaches(state: State) -> Callable[[Change], bool]:
    """Return a function that returns whether a change brings a download into `state`."""
    return lambda change: any(download.state is state for download in change.downloads)


class Harness:
    """A device, and an operator that sends it commands and receives its messages.

    What the daemon is made of may be changed until it is started.
    """

    def __init__(self, directory: Path, operator: MemoryBus, hub: Hub) -> None:
        self.directory = directory
        self.downloads = directory / "downloads"
        self.source = Source()
        self.engine = Engine()
        self.real: tuple[Sources, RealEngine] | None = None
        """Replaces these two in tests that do not need to stop them."""
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
        """The component's configuration in the nucleus; `configuration` has priority over it."""
        self.messages: list[Message] = []
        """Responses and events, in order."""
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
        """Start the daemon. At the end it must still run, and stop cleanly when it is cancelled."""
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
        """Raise the exception that ended the daemon; fail if it has reported a bug of its own."""
        assert self._serving
        if self._serving.done():
            self._serving.result()
            raise AssertionError("the daemon has ended")
        for notice in self.notices:
            assert notice["error_code"] not in ("internal_error", "invalid_state"), notice

    async def until(self, probe: Callable[[], Any]) -> Any:
        """Return the first truthy value of `probe`. The daemon must not end meanwhile."""

        def probe_up() -> Any:
            self.check_up()
            return probe()

        return await eventually(probe_up)

    async def while_time_passes(self, probe: Callable[[], Any]) -> Any:
        """Do the same, and wake all sleeps of the ManualClock meanwhile."""
        clock = self.clock
        assert isinstance(clock, ManualClock)

        def wake_and_probe() -> Any:
            clock.wake()
            return probe()

        return await self.until(wake_and_probe)

    async def pass_time(self, seconds: float) -> None:
        """Move the ManualClock by `seconds`, once the daemon sleeps again."""
        clock = self.clock
        assert isinstance(clock, ManualClock)
        await _turns()
        clock.advance(seconds)

    def hold(self, step: str, holds: Callable[[Any], bool]) -> Gate:
        """Hold callers of the store at a step if `holds` is true of their argument."""
        gate = Gate()
        self.gates[step] = (holds, gate)
        return gate

    async def send(self, command: str, **fields: Any) -> str:
        """Send a command, and return its command_id. None as `command_id` sends none."""
        fields.setdefault("command_id", f"c{next(self._numbers)}")
        given = {name: value for name, value in fields.items() if value is not None}
        payload = msgspec.json.encode({"command": command, **given})
        await self._operator.publish("s3downloader/edge/commands", payload, qos=1)
        return str(given.get("command_id"))

    async def send_and_wait(self, command: str, **fields: Any) -> str:
        """Do the same, and wait until the command can get no further while a gate is closed."""
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
        """Send a download into the directory `below` in DownloadDir, and return the response."""
        destination = str(self.downloads / below)
        fields = {"bucket": "models", "key": key, "download_id": download_id, **fields}
        return await self.ask("download", destination=destination, **fields)

    async def responses(self, command_id: str, count: int = 1) -> list[Message]:
        """Wait for so many responses to a command, and return all."""

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
        """Return the latest event with this name, or None."""
        found = [
            m
            for m in self.messages
            if (m.get("event"), m.get("download_id")) == (name, download_id)
        ]
        return found[-1] if found else None

    async def wait_for_event(self, name: str, *download_ids: str) -> Message:
        """Wait until all these downloads have the event; return that of the last one."""
        for download_id in download_ids:
            event = await self.until(partial(self.event, name, download_id))
        return cast(Message, event)

    async def completed(self, *download_ids: str) -> Message:
        """Wait until all these downloads are completed; return the event of the last one."""
        return await self.wait_for_event("download_completed", *download_ids)

    def status_of(self, download_id: str) -> Message:
        """Return the entry of a download in the latest status."""
        downloads = self.statuses[-1]["downloads"]
        return next((d for d in downloads if d["download_id"] == download_id), {"status": None})

    async def becomes(self, state: State, *download_ids: str) -> None:
        """Wait until the status reports that these downloads are in `state`."""
        await self.until(
            lambda: {self.status_of(d)["status"] for d in download_ids} == {state.value}
        )

    async def listed(self) -> dict[str, str]:
        """Return the states of all downloads, by their IDs."""
        response = await self.ask("list")
        return {d["download_id"]: d["status"] for d in response["downloads"]}

    def files(self, below: str = "") -> set[str]:
        """Return the paths of all files in DownloadDir (or in `below`), published or left over."""
        root = self.downloads / below
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _decode(payload: bytes) -> Message:
    return msgspec.json.decode(payload, type=Message)


async def _turns() -> None:
    """Let the event loop run as far as it gets without the store."""
    for _ in range(20):
        await asyncio.sleep(0)
