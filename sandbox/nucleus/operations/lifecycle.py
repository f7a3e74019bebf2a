"""Implements UpdateState, SubscribeToComponentUpdates and DeferComponentUpdate."""

from __future__ import annotations

import asyncio

from s3downloader.core.aio import timeout

from ..errors import InvalidArgumentsError, ServiceError
from ..server import Json, Operation, Stream

__all__ = ["ComponentUpdates"]

_MODEL = "ComponentUpdatePolicyEvents"


class ComponentUpdates:
    """Asks components before an update, and records the states that they report.

    `states` has the reported states by component, in order.
    """

    def __init__(self) -> None:
        self.states: dict[str, list[str]] = {}
        self._subscribers: list[Stream] = []
        self._answers: dict[str, asyncio.Future[int]] = {}

    def operations(self, *, asks_before_updates: bool) -> dict[str, Operation]:
        """Return the operations; those on updates only with `asks_before_updates`."""
        states = {"UpdateState": Operation(self._update_state)}
        if not asks_before_updates:
            return states
        return {
            **states,
            "SubscribeToComponentUpdates": Operation(self._subscribe, _MODEL),
            "DeferComponentUpdate": Operation(self._defer),
        }

    async def propose(
        self, deployment_id: str, *, restarting: bool, within: float
    ) -> dict[str, int]:
        """Ask all subscribed components; return the milliseconds by which each defers.

        Raises TimeoutError if one has not answered `within` seconds.
        """
        loop = asyncio.get_running_loop()
        answers = {stream.component: loop.create_future() for stream in self._subscribers}
        self._answers = dict(answers)
        event = {"deploymentId": deployment_id, "isGgcRestarting": restarting}
        for stream in self._subscribers:
            stream.send(_MODEL, {"preUpdateEvent": event})
        try:
            async with timeout(within):
                return {component: await answer for component, answer in answers.items()}
        finally:
            self._answers.clear()

    def finish(self, deployment_id: str) -> None:
        """Notify the subscribed components that the update is complete."""
        for stream in self._subscribers:
            stream.send(_MODEL, {"postUpdateEvent": {"deploymentId": deployment_id}})

    async def _update_state(self, stream: Stream, request: Json) -> Json:
        state = request.get("state")
        if state not in ("RUNNING", "ERRORED"):
            raise InvalidArgumentsError(f"state must be RUNNING or ERRORED, not {state!r}")
        self.states.setdefault(stream.component, []).append(state)
        return {}

    async def _subscribe(self, stream: Stream, _request: Json) -> Json:
        self._subscribers.append(stream)
        stream.on_close(lambda: self._subscribers.remove(stream))
        return {}

    async def _defer(self, stream: Stream, request: Json) -> Json:
        if all(stream.component != subscriber.component for subscriber in self._subscribers):
            raise InvalidArgumentsError("Component is not subscribed to component update events")
        answer = self._answers.pop(stream.component, None)
        if answer is None:
            raise ServiceError("Time limit to respond to PreComponentUpdateEvent exceeded")
        answer.set_result(int(request.get("recheckAfterMs") or 0))
        return {}
