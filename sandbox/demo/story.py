"""The steps of the demo: each shows one thing and checks it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from s3downloader.core.aio import uninterrupted

from ..operator import Json
from ..shadows import ShadowError
from .failure import Failed, unless
from .model import Model, make_model
from .screen import Screen, Step, amount
from .world import THING, World

__all__ = ["STEPS", "Story"]

STEPS = (
    Step(
        "sandbox",
        "A cloud and a device, on this machine alone",
        "SeaweedFS stands in for S3, mosquitto for AWS IoT Core, a local nucleus for Greengrass."
        " The component is the real one: started as its recipe says, over the real IPC client,"
        " with no more rights than its recipe asks for.",
    ),
    Step(
        "download",
        "One message starts a download",
        f"It goes to the topic s3downloader/{THING}/commands; the answer and the events come on"
        f" s3downloader/{THING}/responses, the progress on s3downloader/{THING}/status. Files"
        " gather in a hidden folder first: nobody ever loads half a model.",
    ),
    Step(
        "pause",
        "Pause it",
        "Someone else needs the link. A pause frees it at once and keeps what has arrived.",
    ),
    Step(
        "resume",
        "Resume it, to the end",
        "On a slow link every byte counts: a file that is whole is not fetched again. The rest"
        " comes, all is verified, and the model appears at its destination in one step.",
    ),
    Step(
        "registry",
        "Ask which models the device has",
        "The device answers model_list. The cloud knows as well, also while the device is away:"
        f" from the shadow, on $aws/things/{THING}/shadow/name/models/get.",
    ),
    Step(
        "cancel",
        "Give another download up",
        "This one was a mistake. After a cancel nothing of it stays on the device.",
    ),
    Step(
        "refuse",
        "Mistype a command",
        "A refusal changes nothing, names a stable error code, and says what to do.",
    ),
)

_EVENTS = [
    "download_started",
    "download_paused",
    "download_resumed",
    "download_completed",
    "model_added",
]
_PATIENCE = 30.0  # seconds
_SHARDS = 4
_PAUSE_AT = 30  # per cent, when the first shard is there
_WHOLE_AT_PAUSE = 1 / _SHARDS
_OVERHEAD = 0.03  # of HTTP, as a part of the model


class Story:
    """Tells the steps on `screen`, in a `world` that is not started yet.

    What it starts, `stack` ends. `size` is that of the model that is kept, `other_size` that of
    the one that is given up, in bytes. Raises Failed when something does not go as it should.
    """

    def __init__(
        self,
        world: World,
        screen: Screen,
        stack: contextlib.AsyncExitStack,
        *,
        size: int,
        other_size: int,
    ) -> None:
        self._world = world
        self._operator = world.operator
        self._screen = screen
        self._stack = stack
        self._size = size
        self._other_size = other_size

    async def tell(self) -> None:
        """Go through all steps."""
        steps = (
            self._build,
            self._download,
            self._pause,
            self._resume,
            self._registry,
            self._cancel,
            self._refuse,
        )
        for number, step in enumerate(steps):
            self._screen.step(number)
            await asyncio.sleep(self._screen.reading_time if number else 0)
            try:
                await unless(self._hear_of_errors(), work=step())
            except TimeoutError as error:
                what = str(error).partition(";")[0]
                raise Failed(f"Step {number + 1}, {STEPS[number].name}: {what}.") from None

    async def _build(self) -> None:
        world, enter = self._world, self._stack.enter_async_context
        self._stack.push_async_callback(world.objects.stop)  # also of a start that is cut short
        await world.objects.start()
        self._screen.done(f"SeaweedFS serves S3 at {world.objects.endpoint}")
        await enter(world.broker)
        self._screen.done(f"mosquitto carries MQTT at {world.broker.url}")
        await enter(world.shadow_service)
        await enter(world.nucleus)
        self._screen.done("the nucleus and the shadow service are there")
        self._model = await make_model(world.objects, "vlm-7B/", size=self._size, shards=_SHARDS)
        self._other = await make_model(world.objects, "asr-1B/", size=self._other_size, shards=1)
        for model in (self._model, self._other):
            count = len(model.digests)
            self._screen.done(f"s3://models/{model.prefix} has {count} files, {amount(model.size)}")
        await enter(world.link)
        self._screen.done(f"the device reaches S3 over a link of {amount(world.link.rate or 0)}/s")
        await enter(world.operator)
        self._stack.push_async_callback(world.device.stop)
        await uninterrupted(world.device.start())
        await self._operator.wait_for(
            lambda received: received.topic == "status", what="the component's first status"
        )
        self._screen.done(f"the component runs, process {world.device.pid}, and says that it is up")

    async def _download(self) -> None:
        await self._start(self._model, model_version="2.5")
        await self._operator.event("download_started", self._model.name)
        await self._arrived(self._model, _PAUSE_AT)

    async def _pause(self) -> None:
        name = self._model.name
        await self._ask("pause", download_id=name)
        await self._operator.event("download_paused", name)
        link = self._world.link
        await self._eventually(lambda: link.connections == 0, "the link was not let go of")
        before = link.bytes_down
        await asyncio.sleep(max(1.0, self._screen.reading_time))
        self._check(link.bytes_down == before, "not a byte crosses the link now")
        self._check(not self._target(self._model).exists(), "nothing is at the destination yet")

    async def _resume(self) -> None:
        model, link = self._model, self._world.link
        before = link.bytes_down
        await self._ask("resume", download_id=model.name)
        done = await self._operator.event("download_completed", model.name, within=60)
        await self._operator.event("model_added", model.name)
        crossed = link.bytes_down - before
        self._check(
            crossed < model.size * (1 + _OVERHEAD - _WHOLE_AT_PAUSE),
            f"{amount(crossed)} came after the pause, not {amount(model.size)}: what was whole"
            " before was not fetched again",
            f"{amount(crossed)} of {amount(model.size)} came again after the pause",
        )
        different = await model.differences(self._target(model))
        count = len(model.digests)
        self._check(
            not different,
            f"all {done['files']} files are byte for byte those on S3, by SHA-256",
            f"{', '.join(different)} of {count} files are not those on S3",
        )
        events = self._operator.events(model.name)
        self._check(
            events == _EVENTS,
            "the events came in order: " + ", ".join(_EVENTS),
            "the events came as " + ", ".join(events) + ", not as " + ", ".join(_EVENTS),
        )

    async def _registry(self) -> None:
        name, target = self._model.name, str(self._target(self._model))
        answer = await self._ask("model_list")
        found = {model["model_id"]: model["local_path"] for model in answer["models"]}
        self._check(found == {name: target}, f"the device has {name}, and says where")
        await self._eventually(lambda: name in self._reported(), "the model is not in the shadow")
        document = await self._operator.shadow()
        model = document["state"]["reported"]["models"][name]
        self._check(model["local_path"] == target, "the cloud's shadow says the same")

    async def _cancel(self) -> None:
        name = self._other.name
        await self._start(self._other)
        await self._arrived(self._other, 15)
        await self._ask("cancel", download_id=name)
        await self._operator.event("download_cancelled", name)
        await self._eventually(
            lambda: [path.name for path in self._world.models.iterdir()] == [self._model.name],
            f"the cancelled download left something in {self._world.models}",
        )
        self._screen.done("no file of it is left, and no staging folder")
        self._check(name not in self._reported(), "no model of it is in the shadow")

    async def _refuse(self) -> None:
        answer = await self._operator.ask("downlaod", bucket="models", key=self._other.prefix)
        refused = answer["success"] is False and answer.get("error_code") == "unknown_command"
        self._check(refused, "refused, with the error code unknown_command")
        self._check("download" in answer["error"], "the answer suggests the command that was meant")

    async def _start(self, model: Model, **meta: str) -> None:
        await self._ask(
            "download",
            bucket="models",
            key=model.prefix,
            destination=str(self._target(model)),
            download_id=model.name,
            numworkers=1,
            model_meta={"model_id": model.name, **meta},
        )

    def _target(self, model: Model) -> Path:
        return self._world.models / model.name

    def _reported(self) -> Json:
        """The models in the cloud's shadow."""
        try:
            document = self._world.nucleus.shadows.get(THING, "models")
        except ShadowError:
            return {}
        models: Json = document["state"].get("reported", {}).get("models", {})
        return models

    async def _ask(self, command: str, **fields: Any) -> Json:
        answer = await self._operator.ask(command, **fields)
        if not answer["success"]:
            raise Failed(f"The component refused the command {command}: {answer['error']}.")
        return answer

    async def _arrived(self, model: Model, percentage: int) -> None:
        """Return when so much of a model is there."""
        await self._operator.progress(
            model.name, lambda download: download["progress"] >= percentage, within=60
        )

    async def _hear_of_errors(self) -> NoReturn:
        event = await self._operator.wait_for(
            lambda received: received.message.get("event") == "download_error", within=3600
        )
        raise Failed(f"The download {event['download_id']} failed: {event['error']}.")

    async def _eventually(self, probe: Callable[[], bool], otherwise: str) -> None:
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while not probe():
            if asyncio.get_running_loop().time() > deadline:
                raise Failed(f"After {_PATIENCE:g} s {otherwise}.")
            await asyncio.sleep(0.05)

    def _check(self, holds: bool, claim: str, otherwise: str | None = None) -> None:
        if not holds:
            raise Failed(otherwise or f"This does not hold: {claim}.")
        self._screen.done(claim)
