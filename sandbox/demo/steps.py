"""The steps of the demo. Each shows one feature and checks the result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from s3downloader.core.aio import uninterrupted

from ..operator import Json
from ..shadows import ShadowError
from .failure import Failed, run_monitored
from .model import Model, make_model
from .screen import Screen, Step, amount
from .world import THING, World

__all__ = ["STEPS", "StepRunner"]

STEPS = (
    Step(
        "sandbox",
        "Start a cloud and a device on this machine",
        "SeaweedFS stands in for S3, mosquitto for AWS IoT Core, and a local nucleus for"
        " Greengrass. The component is the real one: it is started by the script in its recipe,"
        " uses the real IPC client, and has only the permissions that its recipe requests.",
    ),
    Step(
        "download",
        "Start a download with one message",
        f"The command goes to the topic s3downloader/{THING}/commands. The response and the events"
        f" arrive on s3downloader/{THING}/responses, the progress on s3downloader/{THING}/status."
        " Files are first written to a hidden staging folder, so that nobody loads an incomplete"
        " model.",
    ),
    Step(
        "pause",
        "Pause the download",
        "Another application needs the network. A pause closes all connections to S3 at once, and"
        " keeps what has arrived.",
    ),
    Step(
        "resume",
        "Resume the download until it completes",
        "A file that is already complete is not downloaded again, because every byte counts on a"
        " slow link. When all files are there and verified, the model appears at its destination"
        " in one step.",
    ),
    Step(
        "registry",
        "List the models on the device",
        "The device lists them in its response to model_list. The cloud has the same list in a"
        f" shadow, even while the device is offline: $aws/things/{THING}/shadow/name/models/get.",
    ),
    Step(
        "cancel",
        "Cancel another download",
        "This download was started by mistake. A cancel removes everything that it has written.",
    ),
    Step(
        "refuse",
        "Send a command with a typing error",
        "A refused command changes nothing. The response has an error code, and says what to do.",
    ),
)

_EVENTS = [
    "download_started",
    "download_paused",
    "download_resumed",
    "download_completed",
    "model_added",
]
_TIMEOUT = 30.0  # seconds
_SHARDS = 4
_PAUSE_AT = 30  # percent, when the first shard is complete
_COMPLETE_AT_PAUSE = 1 / _SHARDS
_OVERHEAD = 0.03  # of HTTP, as a fraction of the model's size


class StepRunner:
    """Runs the steps in `world`, which is not started yet, and shows them on `screen`.

    Everything that it starts is stopped by `stack`. `size` and `other_size` are the bytes of the
    model that is kept and of the one whose download is cancelled.
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

    async def run(self) -> None:
        """Run all steps in order. Raises Failed if a step or a check fails."""
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
                await run_monitored(self._watch_errors(), work=step())
            except TimeoutError as error:
                what = str(error).partition(";")[0]
                raise Failed(f"Step {number + 1}, {STEPS[number].name}: {what}.") from None

    async def _build(self) -> None:
        world, enter = self._world, self._stack.enter_async_context
        self._stack.push_async_callback(world.objects.stop)  # also if the start is interrupted
        await world.objects.start()
        self._screen.done(f"SeaweedFS serves S3 at {world.objects.endpoint}")
        await enter(world.broker)
        self._screen.done(f"mosquitto serves MQTT at {world.broker.url}")
        await enter(world.shadow_service)
        await enter(world.nucleus)
        self._screen.done("the nucleus and the shadow service run")
        self._model = await make_model(world.objects, "vlm-7B/", size=self._size, shards=_SHARDS)
        self._other = await make_model(world.objects, "asr-1B/", size=self._other_size, shards=1)
        for model in (self._model, self._other):
            count = len(model.digests)
            self._screen.done(f"s3://models/{model.prefix} has {count} files, {amount(model.size)}")
        await enter(world.link)
        self._screen.done(f"the device's link to S3 carries {amount(world.link.rate or 0)}/s")
        await enter(world.operator)
        self._stack.push_async_callback(world.device.stop)
        await uninterrupted(world.device.start())
        await self._operator.wait_for(
            lambda received: received.topic == "status", what="the component's first status"
        )
        self._screen.done(f"the component runs as process {world.device.pid}")

    async def _download(self) -> None:
        await self._start(self._model, model_version="2.5")
        await self._operator.event("download_started", self._model.name)
        await self._wait_progress(self._model, _PAUSE_AT)

    async def _pause(self) -> None:
        name = self._model.name
        await self._ask("pause", download_id=name)
        await self._operator.event("download_paused", name)
        link = self._world.link
        await self._eventually(
            lambda: link.connections == 0, "the paused download still had connections to S3"
        )
        before = link.bytes_down
        await asyncio.sleep(max(1.0, self._screen.reading_time))
        self._check(link.bytes_down == before, "no byte crosses the link during the pause")
        self._check(not self._target(self._model).exists(), "nothing is at the destination yet")

    async def _resume(self) -> None:
        model, link = self._model, self._world.link
        before = link.bytes_down
        await self._ask("resume", download_id=model.name)
        done = await self._operator.event("download_completed", model.name, within=60)
        await self._operator.event("model_added", model.name)
        crossed = link.bytes_down - before
        self._check(
            crossed < model.size * (1 + _OVERHEAD - _COMPLETE_AT_PAUSE),
            f"{amount(crossed)} arrived after the pause, not {amount(model.size)}: files that were"
            " complete were not downloaded again",
            f"{amount(crossed)} arrived after the pause: the model has only {amount(model.size)},"
            " so complete files were downloaded again",
        )
        different = await model.differences(self._target(model))
        count = len(model.digests)
        self._check(
            not different,
            f"all {done['files']} files have the same SHA-256 as the objects on S3",
            f"of {count} files, these differ from the objects on S3: {', '.join(different)}",
        )
        events = self._operator.events(model.name)
        self._check(
            events == _EVENTS,
            "the events arrived in order: " + ", ".join(_EVENTS),
            "the events were " + ", ".join(events) + ", and not " + ", ".join(_EVENTS),
        )

    async def _registry(self) -> None:
        name, target = self._model.name, str(self._target(self._model))
        response = await self._ask("model_list")
        found = {model["model_id"]: model["local_path"] for model in response["models"]}
        self._check(found == {name: target}, f"the device lists {name} with its path")
        await self._eventually(lambda: name in self._reported(), "the model is not in the shadow")
        document = await self._operator.shadow()
        model = document["state"]["reported"]["models"][name]
        self._check(model["local_path"] == target, "the shadow in the cloud has the same path")

    async def _cancel(self) -> None:
        name = self._other.name
        await self._start(self._other)
        await self._wait_progress(self._other, 15)
        await self._ask("cancel", download_id=name)
        await self._operator.event("download_cancelled", name)
        await self._eventually(
            lambda: [path.name for path in self._world.models.iterdir()] == [self._model.name],
            f"the cancelled download still had files in {self._world.models}",
        )
        self._screen.done("its files and its staging folder are removed")
        self._check(name not in self._reported(), "its model is not in the shadow")

    async def _refuse(self) -> None:
        response = await self._operator.ask("downlaod", bucket="models", key=self._other.prefix)
        refused = response["success"] is False and response.get("error_code") == "unknown_command"
        self._check(refused, "the command is refused with the error code unknown_command")
        self._check("download" in response["error"], "the response suggests the right command")

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
        """Return the models that the shadow in the cloud reports, by their IDs."""
        try:
            document = self._world.nucleus.shadows.get(THING, "models")
        except ShadowError:
            return {}
        models: Json = document["state"].get("reported", {}).get("models", {})
        return models

    async def _ask(self, command: str, **fields: Any) -> Json:
        response = await self._operator.ask(command, **fields)
        if not response["success"]:
            raise Failed(f"The component refused the command {command}: {response['error']}.")
        return response

    async def _wait_progress(self, model: Model, percentage: int) -> None:
        """Wait until the status reports at least this progress of a download."""
        await self._operator.progress(
            model.name, lambda download: download["progress"] >= percentage, within=60
        )

    async def _watch_errors(self) -> NoReturn:
        """Raise Failed when a download fails."""
        event = await self._operator.wait_for(
            lambda received: received.message.get("event") == "download_error", within=3600
        )
        raise Failed(f"The download {event['download_id']} failed: {event['error']}.")

    async def _eventually(self, probe: Callable[[], bool], otherwise: str) -> None:
        """Wait until `probe` is true; raise Failed with the clause `otherwise` after 30 s."""
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while not probe():
            if asyncio.get_running_loop().time() > deadline:
                raise Failed(f"After {_TIMEOUT:g} s {otherwise}.")
            await asyncio.sleep(0.05)

    def _check(self, holds: bool, claim: str, otherwise: str | None = None) -> None:
        """Show `claim` if it holds; otherwise raise Failed."""
        if not holds:
            raise Failed(f"A check failed: {otherwise or f'it is not true that {claim}'}.")
        self._screen.done(claim)
