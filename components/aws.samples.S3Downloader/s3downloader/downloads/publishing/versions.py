"""Retains earlier versions of published targets, deletes old ones, and rolls back to the last."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from ...core.clock import Clock
from ...core.errors import DownloaderError, ErrorCode, from_os_error
from ...core.records import Download, Rollback, Version
from ...models.registry import MakeResponses, Registry
from ...store import Change, Store
from ..planning import path_safety
from ..planning.reuse import published_name
from . import replace

__all__ = ["Versions"]

log = logging.getLogger(__name__)

_WRITE_AGAIN = 10.0


class Versions:
    """The retained versions by number. Changes need `registry.changing`, except deletions."""

    def __init__(
        self,
        *,
        store: Store,
        record: Callable[[Change], Awaitable[object]],
        registry: Registry,
        clock: Clock,
    ) -> None:
        """`record` records a change and publishes its responses."""
        self._store = store
        self._record = record
        self._registry = registry
        self._clock = clock
        self._versions: dict[int, Version] = {}
        self._deleting = asyncio.Lock()

    async def load(self) -> None:
        """Load the versions, and complete what an earlier process could not complete."""
        self.adopt(await self._store.versions())
        await self.tidy()

    async def tidy(self) -> None:
        """Complete interrupted rollbacks, and delete the versions that are pending deletion."""
        async with self._registry.changing:
            for version in [v for v in self._versions.values() if v.rollback]:
                try:
                    await self._finish(version)
                except DownloaderError as error:
                    log.error("the rollback of %s is tried again later: %s", version.target, error)
        await self.delete_pending()

    def adopt(self, versions: Iterable[Version]) -> None:
        """Set versions that have been recorded."""
        self._versions |= {version.number: version for version in versions}

    def check_free(self, target: str) -> None:
        """Raise DESTINATION_BUSY if a rollback is changing `target`, or a path above or below."""
        for version in self._versions.values():
            if version.rollback and path_safety.overlap(version.target, target):
                raise DownloaderError(
                    ErrorCode.DESTINATION_BUSY,
                    f"{version.target} is being rolled back; send the command again in a moment",
                )

    def completed_with(self, download: Download) -> Change:
        """Return the changes of versions to record with the completion of a download."""
        if download.exchange is None:
            return Change()
        target, moved = download.target, [(published_name(download), download.target)]
        retained = self._retained(target)
        if os.path.lexists(path := replace.retained_path(download)):
            number = 1 + max(self._versions, default=0)
            models = self._models_at(target)
            retained.insert(0, Version(number=number, target=target, path=str(path), models=models))
            moved.insert(0, (target, str(path)))
        keep = download.options.keep_versions
        changed = [*retained[:keep], *(_pending_delete(version) for version in retained[keep:])]
        return Change(versions=changed, moved=moved)

    def deleted_with(self, model: dict[str, Any]) -> list[Version]:
        """Return the versions to delete with a model, marked as pending deletion.

        There are none if another model has the same `local_path`. A version with an unfinished
        rollback is left out.
        """
        target = str(model.get("local_path"))
        if set(self._models_at(target)) - {model["model_id"]}:
            return []
        return [
            _pending_delete(version) for version in self._retained(target) if not version.rollback
        ]

    async def delete_pending(self) -> None:
        """Delete the versions that are pending deletion: first their files, then their records."""
        async with self._deleting:
            for version in [v for v in self._versions.values() if v.pending_delete]:
                try:
                    await asyncio.to_thread(replace.remove_retained, Path(version.path))
                    await self._store.record(Change(deleted_versions=[version]))
                except (OSError, DownloaderError) as error:
                    log.warning("%s is deleted later: %s", version.path, error)
                else:
                    del self._versions[version.number]

    async def roll_back(
        self, model_id: str, make_responses: MakeResponses, check_target: Callable[[Path], None]
    ) -> None:
        """Exchange a model's files and its entry in the registry with the newest retained version.

        `make_responses` makes the responses from the restored entry. Raises MODEL_NOT_FOUND,
        VERSION_NOT_FOUND, DESTINATION_BUSY, what `check_target` raises, and the errors of the
        exchange.
        """
        async with self._registry.changing:
            target = str(self._registry.get(model_id).get("local_path"))
            version = self._newest(model_id, target)
            self.check_free(target)
            check_target(Path(target))
            begun = self._with_rollback(version, model_id, make_responses)
            self.adopt([begun])  # from here on the target is busy
            try:
                await self._store.record(Change(versions=[begun]))
            except DownloaderError:
                self.adopt([version])
                raise
            await self._carry_out(begun)

    def _with_rollback(
        self, version: Version, model_id: str, make_responses: MakeResponses
    ) -> Version:
        """Return `version` with the record of a rollback that restores it at its target."""
        unknown = {"model_id": model_id, "local_path": version.target}
        models = self._registry.restored({model_id: unknown, **version.models})
        number = replace.inode(Path(version.path))
        assert number is not None
        rollback = Rollback(
            inode=number,
            models=models,
            before=self._models_at(version.target),
            responses=list(make_responses(models[model_id])),
        )
        return msgspec.structs.replace(version, rollback=rollback)

    async def _carry_out(self, version: Version) -> None:
        """Complete a rollback. If the files are exchanged but it cannot be recorded, try again."""
        assert version.rollback
        while True:
            try:
                await self._finish(version)
            except DownloaderError as error:
                if replace.inode(Path(version.target)) != version.rollback.inode:
                    await self._give_up(version)
                    raise
                log.error("the rollback of %s is tried again: %s", version.target, error)
                await self._clock.sleep(_WRITE_AGAIN)
            else:
                return

    async def _finish(self, version: Version) -> None:
        """Exchange the files, unless that is done already. Then record everything that follows."""
        rollback, target, path = version.rollback, Path(version.target), Path(version.path)
        assert rollback
        try:
            await asyncio.to_thread(replace.exchange_retained, target, path, rollback.inode)
        except OSError as error:
            raise from_os_error(error) from error
        retained = os.path.lexists(path)  # false if the target did not exist
        aside = f"{path}.old"
        done = msgspec.structs.replace(
            version, models=rollback.before, rollback=None, pending_delete=not retained
        )
        await self._record(
            Change(
                at=self._clock.now(),
                models=dict(rollback.models),
                responses=rollback.responses,
                versions=[done],
                moved=[
                    (version.target, aside),
                    (version.path, version.target),
                    (aside, version.path),
                ],
            )
        )
        self._registry.adopt(rollback.models)
        self.adopt([done])

    async def _give_up(self, version: Version) -> None:
        """Remove the record of a rollback that failed. Try again until that is on disk."""
        free = msgspec.structs.replace(version, rollback=None)
        while True:
            try:
                await self._store.record(Change(versions=[free]))
            except DownloaderError as error:
                log.error("the rollback of %s is not cancelled yet: %s", version.target, error)
                await self._clock.sleep(_WRITE_AGAIN)
            else:
                self.adopt([free])
                return

    def _newest(self, model_id: str, target: str) -> Version:
        """Return the newest retained version that still exists. Raises VERSION_NOT_FOUND."""
        for version in self._retained(target):
            if os.path.lexists(version.path):
                return version
        raise DownloaderError(
            ErrorCode.VERSION_NOT_FOUND,
            f"no earlier version of the model {model_id!r} is retained; the next download with"
            ' "publish":"replace" and a keep_versions of at least 1 retains the present one',
            model_id=model_id,
        )

    def _models_at(self, target: str) -> dict[str, dict[str, Any]]:
        return {m["model_id"]: m for m in self._registry.models() if m.get("local_path") == target}

    def _retained(self, target: str) -> list[Version]:
        """Return the retained versions of a target. The newest comes first."""
        retained = [
            v for v in self._versions.values() if v.target == target and not v.pending_delete
        ]
        return sorted(retained, key=lambda version: -version.number)


def _pending_delete(version: Version) -> Version:
    return msgspec.structs.replace(version, pending_delete=True)
