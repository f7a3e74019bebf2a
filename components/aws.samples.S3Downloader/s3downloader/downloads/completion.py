"""Completes a download, adds its model to the registry, and retains what it replaced."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ..core.records import Download
from ..models.registry import Registry
from . import events
from .active_download import ActiveDownload
from .planning.admission import model_id
from .publishing.publish import discard
from .publishing.versions import Versions
from .state_machine import StateMachine

__all__ = ["Completion"]


class Completion:
    """The last step of a download, and the registry's entry for its model."""

    def __init__(self, state_machine: StateMachine, registry: Registry, versions: Versions) -> None:
        self._state_machine = state_machine
        self._registry = registry
        self._versions = versions

    def model(self, download: Download) -> dict[str, Any] | None:
        """Return the registry's entry for the model of a download. None if it has no model.

        Raises what the registry raises if it refuses the entry.
        """
        if download.model_meta is None:
            return None
        return self._registry.updated(
            download.model_meta, model_id=model_id(download), local_path=download.target
        )

    async def complete(self, active: ActiveDownload) -> None:
        """Record in one transaction that a download is completed, its model, and its versions."""
        await asyncio.to_thread(discard, active.download)
        announced: list[events.Announcement] = []
        models: dict[str, dict[str, Any] | None] = {}
        async with self._registry.changing:
            if model := self.model(active.download):
                models[model["model_id"]] = model
                announced.append(events.model_added(model))
            versions = self._versions.completed_with(active.download)
            also = msgspec.structs.replace(versions, models=models)
            await self._state_machine.complete(active, *announced, also=also)
            self._registry.adopt(models)
            self._versions.adopt(also.versions)
