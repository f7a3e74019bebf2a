"""The environment of a registry: its store, its clock, and the sandbox's shadow service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from s3downloader.core.clock import Clock
from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.bus import Shadow, ShadowConflict, ShadowDocument
from s3downloader.messaging.shadow_messages import refusal
from s3downloader.models.registry import Registry
from s3downloader.store import Change, Store
from sandbox.shadows import ShadowDocuments, ShadowError

THING, NAME = "edge-1", "models"

encode = msgspec.json.encode


class ManualClock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.sleeping: dict[asyncio.Future[None], float] = {}

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self.sleeping[future] = self.time + seconds
        try:
            await future
        finally:
            del self.sleeping[future]

    def advance(self, seconds: float) -> None:
        self.time += seconds
        for future, until in self.sleeping.items():
            if until <= self.time + 1e-6 and not future.done():
                future.set_result(None)

    @property
    def waits(self) -> list[float]:
        """The remaining times of all sleeps, sorted."""
        return sorted(round(until - self.time, 3) for until in self.sleeping.values())


class ServiceShadow:
    """The shadow service, called directly and not by messages. Implements Shadow."""

    def __init__(self, service: ShadowDocuments) -> None:
        self.available = True
        self.is_available = True
        self.requests: list[str] = []
        self.watchers = 0
        self.before_update: Callable[[], None] = lambda: None
        self._service = service
        self._busy = False
        self._writing = False

    async def get(self) -> ShadowDocument:
        async with self._request("get"):
            if NAME not in self._service.names(THING):
                return ShadowDocument(version=0)
            document = self._service.get(THING, NAME)
        state = document["state"]
        return ShadowDocument(
            version=document["version"],
            desired=state.get("desired", {}),
            reported=state.get("reported", {}),
        )

    async def update(self, *, version: int, state: dict[str, Any]) -> int:
        async with self._request("update"):
            self.before_update()
            if version == 0 and NAME in self._service.names(THING):
                raise ShadowConflict("the shadow exists")
            request = {"state": state, **({"version": version} if version else {})}
            self._writing = True
            try:
                return int(self._service.update(THING, NAME, encode(request))["version"])
            except ShadowError as error:
                raise refusal(NAME, error.code, error.message) from None
            finally:
                self._writing = False

    async def watch(self, on_change: Callable[[], None]) -> None:
        self._check_available()
        loop = asyncio.get_running_loop()

        def listener(topic: str, _: object) -> None:
            if topic.endswith("/documents") and not self._writing:
                loop.call_soon(on_change)

        self._service.listen(listener)
        self.watchers += 1

    @asynccontextmanager
    async def _request(self, kind: str) -> AsyncIterator[None]:
        assert not self._busy, "more than one request at a time"
        self._busy = True
        self.requests.append(kind)
        try:
            await asyncio.sleep(0)
            self._check_available()
            yield
            if not self.is_available:
                raise DownloaderError(ErrorCode.SHADOW_UNAVAILABLE, "the answer was lost")
        finally:
            self._busy = False

    def _check_available(self) -> None:
        if not self.available:
            raise DownloaderError(ErrorCode.SHADOW_UNAVAILABLE, "no shadow service answers")


class Device:
    """A device with a registry, its store, its shadow service and its clock."""

    def __init__(self, disk: Path) -> None:
        self.clock = ManualClock()
        self.time: Clock = self.clock
        self.service = ShadowDocuments()
        self.shadow = ServiceShadow(self.service)
        self.way: Shadow | None = self.shadow
        self.recorded: list[Change] = []
        self.warnings: list[tuple[ErrorCode, str]] = []
        self.max_bytes = 8192
        self._disk = disk

    @asynccontextmanager
    async def started(self, *, syncing: bool = True) -> AsyncIterator[Registry]:
        """Start the registry and its synchronization; stop both at the end.

        The store's files stay.
        """
        store = Store(self._disk)

        async def record(change: Change) -> None:
            self.recorded.append(change)
            await store.record(change)

        registry = Registry(
            store=store,
            record=record,
            shadow=self.way,
            max_bytes=lambda: self.max_bytes,
            clock=self.time,
            warn=lambda message, code: self.warnings.append((code, message)),
        )
        await registry.load()
        task = asyncio.create_task(registry.sync()) if syncing else None
        try:
            yield registry
        finally:
            if task:
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled(), task
            await store.close()

    def write(self, **state: Any) -> None:
        """Update the shadow as another writer does, whatever its version."""
        self.service.update(THING, NAME, encode({"state": state}))

    def state(self, part: str) -> dict[str, Any]:
        """Return a section of the shadow: `desired`, `reported` or `delta`."""
        if NAME not in self.service.names(THING):
            return {}
        found = self.service.get(THING, NAME)["state"].get(part, {})
        assert isinstance(found, dict)
        return found

    def reported(self) -> dict[str, Any]:
        """Return the models that the shadow reports."""
        found = self.state("reported").get("models", {})
        assert isinstance(found, dict)
        return found

    def follows(self, registry: Registry) -> bool:
        """Return whether the shadow reports exactly the models of the registry."""
        return self.reported() == {model["model_id"]: model for model in registry.models()}
