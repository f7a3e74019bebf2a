"""Compares the registry with its shadow: what to send, and what to adopt.

Patches are merged as in the AWS IoT Device Shadow service: objects are merged, other values are
replaced, and a null removes a field. All models here are normalized.
"""

from __future__ import annotations

from ..messaging.bus import ShadowDocument
from .shadow_document import ModelEntry, Models, json_bytes, normalize, readable, same, unreadable

__all__ = ["desired_patches", "difference", "merge", "next_update", "patched", "reported_models"]

_UPDATE_BYTES = 2_000
# The service answers with the update and a timestamp for each value: about twice the bytes.
# Greengrass nucleus lite delivers at most 4,960 bytes.


def difference(base: ModelEntry, local: ModelEntry) -> ModelEntry:
    """Return the patch that turns `base` into `local`. It has null for each removed field."""
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
    """Return the next patch of `reported.models` towards `models`. Empty if none is needed.

    A patch has at most about 2,000 bytes. A model that fits is sent in one patch, a larger one
    field by field. Patches that shrink the shadow come first. Invalid models in the shadow are not
    changed.
    """
    invalid = unreadable(document.reported)
    if invalid is None:
        return {}
    base = readable(document.reported)
    ours = {name: model for name, model in models.items() if name not in invalid}
    patch = difference(base, ours)
    update: ModelEntry = {}
    for name in sorted(patch, key=lambda n: json_bytes(ours.get(n)) - json_bytes(base.get(n))):
        if not _fits({**update, name: patch[name]}):
            return update or {name: _first_fields(name, patch[name])}
        update[name] = patch[name]
    return update


def merge(base: Models, local: Models, remote: Models) -> Models:
    """Return the models with the changes that both sides have made since `base`.

    `local` is the registry, `remote` what the shadow reports. A model that one side changed is
    taken from that side. If both changed a model, its fields are merged in the same way; a field
    that both changed is taken from the side with the newer `last_updated`. If one side removed a
    model that the other changed, `local` decides.
    """
    merged: Models = {}
    for name in {**local, **remote}:
        model = _merge_entry(base.get(name), local.get(name), remote.get(name))
        if model is not None:
            merged[name] = model
    return merged


def reported_models(base: ShadowDocument, remote: ShadowDocument) -> Models:
    """Return the models that `remote` reports. Where one is invalid, return that of `base`."""
    before, invalid = readable(base.reported), unreadable(remote.reported)
    if invalid is None:
        return before
    previous = {name: model for name, model in before.items() if name in invalid}
    return {**readable(remote.reported), **previous}


def desired_patches(base: ShadowDocument, remote: ShadowDocument, models: Models) -> Models:
    """Return a patch for each model whose `desired` state has changed and differs from `models`.

    Only changes of `desired` since `base` count, so that a desired state that was applied once does
    not undo later changes on the device. For a model that `models` lacks, the patch has all its
    desired fields. A desired state never removes a field: a shadow stores no null, so a null in
    `desired` only withdraws what was desired before.
    """
    before = readable(base.desired)
    patches: Models = {}
    for name, desired in readable(remote.desired).items():
        patch = normalize(difference(before.get(name, {}), desired))
        if patch and name not in models:
            patches[name] = desired
        elif patch and not same(patched(models[name], patch), models[name]):
            patches[name] = patch
    return patches


def _fits(models: ModelEntry) -> bool:
    return json_bytes({"reported": {"models": models}}) <= _UPDATE_BYTES


def _first_fields(name: str, patch: ModelEntry) -> ModelEntry:
    """Return the first fields of a model's patch that fit into one update, at least one field."""
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
    return merged or None  # a shadow stores no empty object


def _last_updated(model: ModelEntry) -> float:
    value = model.get("last_updated")
    return value if isinstance(value, int | float) else 0
