"""The registry of the models on the device, which is synchronized with a shadow."""

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
_COALESCE_SECONDS = 0.1
"""Changes within this time are synchronized together."""

_READ_INTERVAL = 600.0
"""Seconds between reads of the shadow, because a message about a change may be lost."""

_SHORTEST_WAIT = 1.0
_LONGEST_WAIT = 300.0
"""Bounds of the growing wait before the next attempt after an error, in seconds."""


Responses = Sequence[tuple[str, bytes]]
MakeResponses = Callable[[ModelEntry], Responses]


def _no_responses(_: ModelEntry) -> Responses:
    return ()


def _no_versions(_: ModelEntry) -> Sequence[Version]:
    return ()


class Registry:
    """The models by their ids, stored in the database and reported in the named shadow `models`.

    The base is the last known content of the shadow. It is stored too. So changes that were made
    without a connection, also removals, are found and sent after a restart. Without a shadow the
    registry exists on the device only.
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
        """`record` writes a change to disk. `max_bytes` returns the size limit of the shadow."""
        self._store = store
        self._record = record
        self._shadow = shadow
        self._max_bytes = max_bytes
        self._clock = clock
        self._warn = warn
        self.changing = asyncio.Lock()
        """Held from reading an entry until the changed entry is adopted."""
        self._models: Models = {}
        self._base = _UNKNOWN
        self._outdated = True
        self._changed = asyncio.Event()
        self._noticed = asyncio.Event()
        self._watching = False
        self._reset_failures()

    async def load(self) -> None:
        """Read models and base from the database."""
        self._models = await self._store.models()
        stored = await self._store.metadata(_METADATA)
        if stored is None:
            return
        try:
            self._base = msgspec.json.decode(stored, type=ShadowDocument)
        except DECODE_ERRORS as error:  # the shadow is then synchronized as for the first time
            log.warning("the stored copy of the models shadow cannot be decoded: %s", error)

    def models(self) -> list[ModelEntry]:
        """Return all entries, sorted by their ids."""
        return [model for _, model in sorted(self._models.items())]

    def get(self, model_id: str) -> ModelEntry:
        """Return one entry. Raises MODEL_NOT_FOUND."""
        if model_id not in self._models:
            near = difflib.get_close_matches(model_id, self._models, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "model_list lists the models"
            raise DownloaderError(
                ErrorCode.MODEL_NOT_FOUND,
                f"there is no model {model_id!r}; {hint}",
                model_id=model_id,
            )
        return self._models[model_id]

    def updated(
        self, meta: Mapping[str, Any], *, model_id: str, local_path: str | None
    ) -> ModelEntry:
        """Return the entry of a model, updated with `meta`.

        A null in `meta` removes a field. A `local_path` of None keeps the present one. The registry
        is not changed: the caller records the entry, and then adopts it. Raises INVALID_FIELD for
        a value that a shadow cannot store, REGISTRY_FULL if the entry does not fit into the shadow.
        """
        check_id(model_id)
        check_fields(dict(meta))
        fixed = {"model_id": model_id, "last_updated": int(self._clock.now())}
        if local_path is not None:
            fixed["local_path"] = local_path
        known = self._models.get(model_id, {})
        model: ModelEntry = normalize({"model_id": model_id, **known, **meta, **fixed})
        self._check_size(self._base, {**self._models, model_id: model}, model_id)
        return model

    def restored(self, models: Models) -> Models:
        """Return earlier entries with the present time as `last_updated`.

        The registry is not changed: the caller records the entries, and then adopts them. Raises
        REGISTRY_FULL.
        """
        stamp = {"last_updated": int(self._clock.now())}
        restored: Models = {name: {**model, **stamp} for name, model in models.items()}
        for model_id in restored:
            self._check_size(self._base, {**self._models, **restored}, model_id)
        return restored

    def adopt(self, models: Mapping[str, ModelEntry | None]) -> None:
        """Put recorded entries into the registry. None removes a model."""
        self._set(models)
        self._changed.set()

    async def add(
        self, meta: Mapping[str, Any], make_responses: MakeResponses = _no_responses
    ) -> ModelEntry:
        """Add or update the model with the `model_id` in `meta`, and return its entry.

        `make_responses` returns the responses to record with it.
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
        """Remove a model from the registry and return its last entry. Its files stay.

        `make_responses` returns the responses, and `versions` the version records, to record with
        the removal. Raises MODEL_NOT_FOUND.
        """
        async with self.changing:
            model = self.get(model_id)
            await self._put({model_id: None}, make_responses(model), versions(model))
        return model

    async def sync(self) -> None:
        """Synchronize shadow and registry until cancelled.

        This happens after each change on either side, and every 10 minutes. After an error the next
        attempt follows after 1 s to 5 minutes, or when a message shows that the service responds.
        """
        if self._shadow is None:
            return
        while True:
            await self._sync_once(self._shadow)
            if self._wait:
                await first_of(self._clock.sleep(self._wait), self._noticed.wait())
            else:
                due = self._clock.sleep(_READ_INTERVAL)
                await first_of(due, self._noticed.wait(), self._changed.wait())
            self._outdated |= not self._changed.is_set()
            await self._clock.sleep(_COALESCE_SECONDS)
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
            self._reset_failures()

    def _reset_failures(self) -> None:
        self._wait = 0.0
        self._waits = backoff(_SHORTEST_WAIT, _LONGEST_WAIT)
        self._last_error: ErrorCode | None = None

    async def _watch(self, shadow: Shadow) -> None:
        if not self._watching:
            await shadow.watch(self._on_shadow_changed)
            self._watching = True

    def _on_shadow_changed(self) -> None:
        self._outdated = True
        self._noticed.set()

    async def _pull_and_push(self, shadow: Shadow) -> None:
        """Adopt the changes of others, then send the changes of the device."""
        if self._outdated:
            self._outdated = False
            remote = await shadow.get()
            async with self.changing:
                await self._pull(remote)
        while update := next_update(self._base, self._models):
            patch = {"models": update}
            version = await shadow.update(version=self._base.version, state={"reported": patch})
            reported = patched(self._base.reported, patch)
            base = msgspec.structs.replace(self._base, version=version, reported=reported)
            await self._record_sync(base, {})

    async def _pull(self, remote: ShadowDocument) -> None:
        """Merge the changes that others have made since the base. Record them with the new base.

        If the version is lower than that of the base, the shadow was deleted. Then the base is
        empty.
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
        if invalid := invalid_paths(remote) - invalid_paths(base):
            self._warn(
                f"the models shadow has values that are no models: {', '.join(sorted(invalid))};"
                " they are ignored and not changed; write an object there, or null to remove it",
                ErrorCode.INVALID_FIELD,
            )
        if changes:
            log.info("the models shadow changed %s", ", ".join(changes))
        if changes or remote != self._base:
            await self._record_sync(remote, changes)

    def _apply_desired(self, patches: Models, remote: ShadowDocument, models: Models) -> None:
        """Merge desired patches into `models`. Ignore one that is not allowed, with a warning."""
        for model_id, patch in patches.items():
            stamp = {"model_id": model_id, "last_updated": int(self._clock.now())}
            model = patched(models.get(model_id, {}), {**stamp, **patch})
            try:
                check_fields(patch)
                self._check_size(remote, {**models, model_id: model}, model_id)
            except DownloaderError as error:
                self._warn(f"desired.models.{model_id} is ignored: {error}", error.code)
            else:
                models[model_id] = model

    def _check_size(self, shadow: ShadowDocument, models: Models, model_id: str) -> None:
        needed, limit = shadow_bytes(with_reported(shadow, models)), self._max_bytes()
        if needed > limit:
            raise DownloaderError(
                ErrorCode.REGISTRY_FULL,
                f"with the model {model_id!r} the models shadow would take {needed} bytes, and its"
                f" limit is {limit}; delete a model, or shorten the fields of this one",
                bytes=needed,
                limit=limit,
            )

    async def _record_sync(
        self, base: ShadowDocument, changes: Mapping[str, ModelEntry | None]
    ) -> None:
        """Record a new base together with the changes to the models."""
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
        """Warn once of an error, and choose when to try again."""
        full = error.code is ErrorCode.REGISTRY_FULL
        if error.code is not self._last_error:
            needed = shadow_bytes(with_reported(self._base, self._models))
            advice = f"; it would take {needed} bytes: delete a model" if full else ""
            self._warn(
                "the models shadow cannot be updated, the registry continues on the device:"
                f" {error}{advice}",
                error.code,
            )
        if full:  # waiting does not help: only a change of the models can make room
            self._reset_failures()
        else:
            self._wait = next(self._waits)
        self._last_error = error.code
        self._outdated = True
