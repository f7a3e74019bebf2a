"""The registry of the models on the device. The device leads, its shadow follows."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..core.aio import first_of
from ..core.backoff import backoff
from ..core.clock import Clock
from ..core.decoding import DECODE_ERRORS
from ..core.errors import DownloaderError, ErrorCode
from ..core.records import Version
from ..messaging.bus import Shadow, ShadowConflict, ShadowDocument
from ..store import Change, Store
from .merge import desired_patches, merge, next_update, patched, reported_models
from .shadow_document import (
    ModelEntry,
    Models,
    check_fields,
    check_id,
    invalid_paths,
    normalize,
    readable,
    same,
    shadow_bytes,
    with_reported,
)

__all__ = ["MakeResponses", "Registry"]

log = logging.getLogger(__name__)

_METADATA = "shadow"
_UNKNOWN = ShadowDocument(version=0)
_GATHERING = 0.1
"""Seconds in which a burst of changes becomes one."""

_LOOK_EVERY = 600.0
"""Seconds after which the shadow is read, in case that a message about it was lost."""

_SHORTEST_WAIT = 1.0
_LONGEST_WAIT = 300.0


Responses = Sequence[tuple[str, bytes]]
MakeResponses = Callable[[ModelEntry], Responses]


def _no_responses(_: ModelEntry) -> Responses:
    return ()


def _no_versions(_: ModelEntry) -> Sequence[Version]:
    return ()


class Registry:
    """The models by their ids, kept in the store and shown in the named shadow `models`.

    The base is the shadow as it was last known. It is kept in the store too, so that what was
    done while the cloud was away, removals among it, is found and sent after a restart. Without a
    shadow the registry lives on the device alone.
    """

    def __init__(
        self,
        *,
        store: Store,
        record: Callable[[Change], Awaitable[None]],
        shadow: Shadow | None,
        max_bytes: Callable[[], int],
        clock: Clock,
        warn: Callable[[str, ErrorCode], None],
    ) -> None:
        """`record` writes a change to disk, `max_bytes` is the limit of the shadow's document."""
        self._store = store
        self._record = record
        self._shadow = shadow
        self._max_bytes = max_bytes
        self._clock = clock
        self._warn = warn
        self.changing = asyncio.Lock()
        """Held from the reading of an entry until what was made of it is adopted."""
        self._models: Models = {}
        self._base = _UNKNOWN
        self._outdated = True
        self._changed = asyncio.Event()
        self._noticed = asyncio.Event()
        self._watching = False
        self._forget_failures()

    async def load(self) -> None:
        """Read models and base from the store."""
        self._models = await self._store.models()
        stored = await self._store.metadata(_METADATA)
        if stored is None:
            return
        try:
            self._base = msgspec.json.decode(stored, type=ShadowDocument)
        except DECODE_ERRORS as error:  # then the shadow is met as for the first time
            log.warning("what was known of the models shadow cannot be read: %s", error)

    def models(self) -> list[ModelEntry]:
        """Return all entries in the order of their ids."""
        return [model for _, model in sorted(self._models.items())]

    def get(self, model_id: str) -> ModelEntry:
        """Return one entry; raises MODEL_NOT_FOUND."""
        if model_id not in self._models:
            near = difflib.get_close_matches(model_id, self._models, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "model_list shows those there are"
            raise DownloaderError(
                ErrorCode.MODEL_NOT_FOUND,
                f"there is no model {model_id!r}; {hint}",
                model_id=model_id,
            )
        return self._models[model_id]

    def updated(
        self, meta: Mapping[str, Any], *, model_id: str, local_path: str | None
    ) -> ModelEntry:
        """Return the entry that `meta` makes of a model, over what is known of it.

        A null in `meta` removes a field; a `local_path` of None leaves the one there is. Changes
        nothing: record the entry, then adopt it. Raises INVALID_FIELD for what a shadow cannot
        hold, REGISTRY_FULL if the shadow has no room for it.
        """
        check_id(model_id)
        check_fields(dict(meta))
        fixed = {"model_id": model_id, "last_updated": int(self._clock.now())}
        if local_path is not None:
            fixed["local_path"] = local_path
        known = self._models.get(model_id, {})
        model: ModelEntry = normalize({"model_id": model_id, **known, **meta, **fixed})
        self._check_room(self._base, {**self._models, model_id: model}, model_id)
        return model

    def restored(self, models: Models) -> Models:
        """Return earlier entries as they are when they come back now.

        Changes nothing: record them, then adopt them. Raises REGISTRY_FULL.
        """
        stamp = {"last_updated": int(self._clock.now())}
        restored: Models = {name: {**model, **stamp} for name, model in models.items()}
        for model_id in restored:
            self._check_room(self._base, {**self._models, **restored}, model_id)
        return restored

    def adopt(self, models: Mapping[str, ModelEntry | None]) -> None:
        """Take over entries that have been recorded; None removes a model."""
        self._set(models)
        self._changed.set()

    async def add(
        self, meta: Mapping[str, Any], make_responses: MakeResponses = _no_responses
    ) -> ModelEntry:
        """Add the model that `meta` names by `model_id`, or update it; return its entry.

        `make_responses` makes the responses that are recorded with it.
        """
        async with self.changing:
            model = self.updated(meta, model_id=meta.get("model_id", ""), local_path=None)
            await self._put({model["model_id"]: model}, make_responses(model))
        return model

    async def delete(
        self,
        model_id: str,
        make_responses: MakeResponses = _no_responses,
        versions: Callable[[ModelEntry], Sequence[Version]] = _no_versions,
    ) -> ModelEntry:
        """Remove a model, not its files; return the entry it had. Raises MODEL_NOT_FOUND.

        `versions` tells what is recorded of the versions of its files with it.
        """
        async with self.changing:
            model = self.get(model_id)
            await self._put({model_id: None}, make_responses(model), versions(model))
        return model

    async def sync(self) -> None:
        """Bring shadow and registry together, again and again, until cancelled.

        A round follows each change on either side, and every 10 minutes. After a fault the next
        one waits from 1 s to 5 minutes, unless a message shows that the service is there.
        """
        if self._shadow is None:
            return
        while True:
            await self._sync_once(self._shadow)
            if self._wait:
                await first_of(self._clock.sleep(self._wait), self._noticed.wait())
            else:
                look = self._clock.sleep(_LOOK_EVERY)
                await first_of(look, self._noticed.wait(), self._changed.wait())
            self._outdated |= not self._changed.is_set()
            await self._clock.sleep(_GATHERING)
            self._noticed.clear()
            self._changed.clear()

    async def _sync_once(self, shadow: Shadow) -> None:
        try:
            await self._watch(shadow)
            try:
                await self._pull_and_push(shadow)
            except ShadowConflict:
                self._outdated = True
                await self._pull_and_push(shadow)
        except DownloaderError as error:
            self._handle_failure(error)
        else:
            self._forget_failures()

    def _forget_failures(self) -> None:
        self._wait = 0.0
        self._waits = backoff(_SHORTEST_WAIT, _LONGEST_WAIT)
        self._trouble: ErrorCode | None = None

    async def _watch(self, shadow: Shadow) -> None:
        if not self._watching:
            await shadow.watch(self._notice)
            self._watching = True

    def _notice(self) -> None:
        self._outdated = True
        self._noticed.set()

    async def _pull_and_push(self, shadow: Shadow) -> None:
        """Take over what others changed, then send what the device changed."""
        if self._outdated:
            self._outdated = False
            remote = await shadow.get()
            async with self.changing:
                await self._take_over(remote)
        while update := next_update(self._base, self._models):
            patch = {"models": update}
            version = await shadow.update(version=self._base.version, state={"reported": patch})
            reported = patched(self._base.reported, patch)
            base = msgspec.structs.replace(self._base, version=version, reported=reported)
            await self._record_sync(base, {})

    async def _take_over(self, remote: ShadowDocument) -> None:
        """Merge what others wrote since the base, and record it together with the new base.

        A version that went back tells of another shadow, or of none: nothing is known of it.
        """
        base = self._base if self._base.version <= remote.version else _UNKNOWN
        theirs = reported_models(base, remote)
        merged = merge(readable(base.reported), self._models, theirs)
        merged = {name: {"model_id": name, **model} for name, model in merged.items()}
        self._apply_desired(desired_patches(base, remote, merged), remote, merged)
        changes = {
            name: merged.get(name)
            for name in {**self._models, **merged}
            if not same(merged.get(name), self._models.get(name))
        }
        if strange := invalid_paths(remote) - invalid_paths(base):
            self._warn(
                f"the models shadow holds what is no model at {', '.join(sorted(strange))}: it is"
                " ignored and left there; write an object, or null to remove it",
                ErrorCode.INVALID_FIELD,
            )
        if changes:
            log.info("the models shadow changed %s", ", ".join(changes))
        if changes or remote != self._base:
            await self._record_sync(remote, changes)

    def _apply_desired(self, patches: Models, remote: ShadowDocument, models: Models) -> None:
        """Merge wishes into `models`; one that cannot be met is left out, with a warning."""
        for model_id, patch in patches.items():
            stamp = {"model_id": model_id, "last_updated": int(self._clock.now())}
            model = patched(models.get(model_id, {}), {**stamp, **patch})
            try:
                check_fields(patch)
                self._check_room(remote, {**models, model_id: model}, model_id)
            except DownloaderError as error:
                self._warn(f"desired.models.{model_id} is ignored: {error}", error.code)
            else:
                models[model_id] = model

    def _check_room(self, shadow: ShadowDocument, models: Models, model_id: str) -> None:
        needed, limit = shadow_bytes(with_reported(shadow, models)), self._max_bytes()
        if needed > limit:
            raise DownloaderError(
                ErrorCode.REGISTRY_FULL,
                f"with the model {model_id!r} the models shadow would take {needed} bytes, and its"
                f" limit is {limit}; delete a model, or give this one less",
                bytes=needed,
                limit=limit,
            )

    async def _record_sync(
        self, base: ShadowDocument, changes: Mapping[str, ModelEntry | None]
    ) -> None:
        """Record a new base, and the changes that came with it."""
        metadata = {_METADATA: msgspec.json.encode(base)}
        await self._record(Change(at=self._clock.now(), models=dict(changes), metadata=metadata))
        self._base = base
        self._set(changes)

    async def _put(
        self,
        models: dict[str, ModelEntry | None],
        responses: Responses,
        versions: Sequence[Version] = (),
    ) -> None:
        at = self._clock.now()
        await self._record(Change(at=at, models=models, responses=responses, versions=versions))
        self.adopt(models)

    def _set(self, models: Mapping[str, ModelEntry | None]) -> None:
        everything = {**self._models, **models}
        self._models = {name: model for name, model in everything.items() if model is not None}

    def _handle_failure(self, error: DownloaderError) -> None:
        """Say once what is wrong, and choose how long to wait."""
        full = error.code is ErrorCode.REGISTRY_FULL
        if error.code is not self._trouble:
            needed = shadow_bytes(with_reported(self._base, self._models))
            advice = f"; it would take {needed} bytes: delete a model" if full else ""
            self._warn(
                "the models shadow does not follow, the registry goes on from the device:"
                f" {error}{advice}",
                error.code,
            )
        if full:  # only a change can make room; all else may pass by itself
            self._forget_failures()
        else:
            self._wait = next(self._waits)
        self._trouble = error.code
        self._outdated = True
