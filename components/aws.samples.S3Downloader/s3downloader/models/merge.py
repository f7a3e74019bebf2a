"""How the registry and its shadow meet: what to send, and what to take over.

Updates are merged as the AWS IoT Device Shadow service does it: objects are merged, all else is
replaced, a null removes. Models are in plain form throughout.
"""

from __future__ import annotations

from ..messaging.bus import ShadowDocument
from .shadow_document import ModelEntry, Models, json_bytes, normalize, readable, same, unreadable

__all__ = ["desired_patches", "difference", "merge", "next_update", "patched", "reported_models"]

_UPDATE_BYTES = 2_000
# An update comes back as accepted, with a timestamp for each value: about twice its size, of which
# Greengrass nucleus lite delivers no more than 4,960 bytes.


def difference(base: ModelEntry, local: ModelEntry) -> ModelEntry:
    """Return the patch that turns `base` into `local`: what changed, and null for what left."""
    patch: ModelEntry = {name: None for name in base if name not in local}
    for name, value in local.items():
        old = base.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            if inner := difference(old, value):
                patch[name] = inner
        elif not same(old, value):
            patch[name] = value
    return patch


def patched(state: ModelEntry, patch: ModelEntry) -> ModelEntry:
    """Return `state` with `patch` merged into it."""
    result = dict(state)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            old = result.get(name)
            result[name] = patched(old if isinstance(old, dict) else {}, value)
        else:
            result[name] = value
    return result


def next_update(document: ShadowDocument, models: Models) -> ModelEntry:
    """Return the next patch of `reported.models` on its way to `models`; empty at the end.

    A patch has at most about 2,000 bytes: models go whole where they fit, else field by field, and
    what frees bytes goes first. What is unreadable in the shadow is left as it is.
    """
    strange = unreadable(document.reported)
    if strange is None:
        return {}
    base = readable(document.reported)
    ours = {name: model for name, model in models.items() if name not in strange}
    patch = difference(base, ours)
    update: ModelEntry = {}
    for name in sorted(patch, key=lambda n: json_bytes(ours.get(n)) - json_bytes(base.get(n))):
        if not _fits({**update, name: patch[name]}):
            return update or {name: _first_fields(name, patch[name])}
        update[name] = patch[name]
    return update


def merge(base: Models, local: Models, remote: Models) -> Models:
    """Return the models after both sides changed them since `base`.

    A change on one side is taken. Where both changed a model, its fields are merged the same way,
    and a field that both changed is taken from the side with the newer `last_updated`. A model
    that one side removed and the other changed is as the device has it.
    """
    merged: Models = {}
    for name in {**local, **remote}:
        model = _merge_entry(base.get(name), local.get(name), remote.get(name))
        if model is not None:
            merged[name] = model
    return merged


def reported_models(base: ShadowDocument, remote: ShadowDocument) -> Models:
    """Return the models that `remote` reports; those of `base` stand for what is unreadable."""
    before, strange = readable(base.reported), unreadable(remote.reported)
    if strange is None:
        return before
    unreadable_models = {name: model for name, model in before.items() if name in strange}
    return {**readable(remote.reported), **unreadable_models}


def desired_patches(base: ShadowDocument, remote: ShadowDocument, models: Models) -> Models:
    """Return what `desired` asks for since `base` and `models` lack: a patch for each model.

    Only what changed in `desired` counts, so that a wish once taken over does not undo what is
    done at the device later. A model that is not there is asked for with all its fields. No wish
    removes anything: a shadow holds no null, so a null in `desired` takes back a wish, no more.
    """
    before = readable(base.desired)
    patches: Models = {}
    for name, wish in readable(remote.desired).items():
        patch = normalize(difference(before.get(name, {}), wish))
        if patch and name not in models:
            patches[name] = wish
        elif patch and not same(patched(models[name], patch), models[name]):
            patches[name] = patch
    return patches


def _fits(models: ModelEntry) -> bool:
    return json_bytes({"reported": {"models": models}}) <= _UPDATE_BYTES


def _first_fields(name: str, patch: ModelEntry) -> ModelEntry:
    """Return as many fields of the patch of one model as fit into an update, at least one."""
    fields: ModelEntry = {}
    for field, value in patch.items():
        if fields and not _fits({name: {**fields, field: value}}):
            break
        fields[field] = value
    return fields


def _merge_entry(
    base: ModelEntry | None, local: ModelEntry | None, remote: ModelEntry | None
) -> ModelEntry | None:
    if same(remote, base):
        return local
    if same(local, base):
        return remote
    if local is None or remote is None:
        return local
    old = base or {}
    newer = remote if _last_updated(remote) > _last_updated(local) else local
    merged: ModelEntry = {}
    for name in {**local, **remote}:
        mine, theirs = local.get(name), remote.get(name)
        if same(theirs, old.get(name)):
            value = mine
        elif same(mine, old.get(name)):
            value = theirs
        else:
            value = newer.get(name)
        if value is not None:
            merged[name] = value
    return merged or None  # a shadow holds no model without a field


def _last_updated(model: ModelEntry) -> float:
    value = model.get("last_updated")
    return value if isinstance(value, int | float) else 0
