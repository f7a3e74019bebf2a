"""The registry and its shadow are merged."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3downloader.messaging.bus import ShadowDocument
from s3downloader.models.merge import (
    desired_patches,
    difference,
    merge,
    next_update,
    patched,
    reported_models,
)
from s3downloader.models.shadow_document import (
    Models,
    invalid_paths,
    normalize,
    readable,
    same,
    shadow_bytes,
    unreadable,
    with_reported,
)
from sandbox.shadows import ShadowDocuments

from .test_shadow_document import document

NAMES = st.sampled_from(["a", "b", "c", "d"])
SCALARS = st.one_of(st.booleans(), st.integers(0, 2), st.sampled_from(["", "x", "ü" * 300]))
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(NAMES, SCALARS, max_size=3),
)
ENTRIES = st.fixed_dictionaries(
    {}, optional={"last_updated": st.integers(0, 3), "x": VALUES, "y": VALUES, "z": VALUES}
)
MODELS = st.dictionaries(NAMES, ENTRIES, max_size=4).map(normalize)
JSON = st.recursive(
    st.one_of(st.none(), SCALARS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
ANYTHING = st.dictionaries(st.sampled_from(["models", "else"]), JSON, max_size=2)

unhurried = settings(deadline=None, database=None)


def served(base: Models, patch: dict[str, Any]) -> Models:
    """Return the shadow service's result of merging a patch into models."""
    service = ShadowDocuments(max_bytes=1 << 20)
    for models in filter(None, (base, patch)):
        request = {"state": {"reported": {"models": models, "else": 1}}}
        service.update("edge", "models", msgspec.json.encode(request))
    if not service.names("edge"):
        return {}
    found = service.get("edge", "models")["state"]["reported"].get("models", {})
    assert isinstance(found, dict)
    return found


@unhurried
@given(base=MODELS, local=MODELS)
def test_a_difference_turns_base_into_local(base: Models, local: Models) -> None:
    patch = difference(base, local)
    assert same(normalize(patched(base, patch)), local)
    assert same(normalize(served(base, patch)), local)
    assert bool(patch) == (not same(base, local))


@unhurried
@given(base=MODELS, local=MODELS, remote=MODELS)
@example(base={"m": {"x": 1, "y": 1}}, local={"m": {"x": 1}}, remote={"m": {"y": 1}})
def test_after_a_merge_both_sides_are_the_same(base: Models, local: Models, remote: Models) -> None:
    merged = merge(base, local, remote)
    shadow = normalize(patched(remote, difference(remote, merged)))
    assert same(shadow, merged)
    assert same(merge(shadow, merged, shadow), merged)


@unhurried
@given(base=MODELS, changed=MODELS)
def test_a_change_on_one_side_is_taken(base: Models, changed: Models) -> None:
    assert same(merge(base, changed, base), changed)
    assert same(merge(base, base, changed), changed)
    assert same(merge(base, changed, changed), changed)


@pytest.mark.parametrize(
    ("local", "remote", "merged"),
    [
        pytest.param({"x": 2, "y": 1}, {"x": 1, "y": 2}, {"x": 2, "y": 2}, id="other fields"),
        pytest.param({"x": 2, "y": 1, "z": 1}, {"x": 1}, {"x": 2, "z": 1}, id="a field left"),
        pytest.param(
            {"x": 2, "y": 1, "last_updated": 8},
            {"x": 3, "y": 1, "last_updated": 9},
            {"x": 3, "y": 1, "last_updated": 9},
            id="the newer one wins",
        ),
        pytest.param(
            {"x": 2, "y": 1, "last_updated": 9},
            {"x": 3, "y": 2, "last_updated": 8},
            {"x": 2, "y": 2, "last_updated": 9},
            id="the newer one wins what both changed",
        ),
        pytest.param({"x": 2, "y": 1}, {"x": 3, "y": 1}, {"x": 2, "y": 1}, id="or the device"),
        pytest.param(
            {"x": 2, "y": 1},
            {"x": 3, "y": 1, "last_updated": "late"},
            {"x": 2, "y": 1, "last_updated": "late"},
            id="a time that is none",
        ),
        pytest.param(None, {"x": 2, "y": 1}, None, id="removed at the device"),
        pytest.param({"x": 2, "y": 1}, None, {"x": 2, "y": 1}, id="removed in the shadow"),
        pytest.param(None, None, None, id="removed on both sides"),
    ],
)
def test_changes_on_both_sides(local: Any, remote: Any, merged: Any) -> None:
    def models(model: Any) -> Models:
        return {} if model is None else {"m": model}

    assert merge({"m": {"x": 1, "y": 1}}, models(local), models(remote)) == models(merged)


@unhurried
@given(reported=ANYTHING.map(normalize), models=MODELS)
def test_updates_lead_to_the_models_and_leave_the_rest(reported: Any, models: Models) -> None:
    shadow = ShadowDocument(version=1, reported=reported)
    strange = unreadable(reported)
    wanted = {} if strange is None else {n: e for n, e in models.items() if n not in strange}
    end = shadow if strange is None else with_reported(shadow, wanted)
    largest = max(shadow_bytes(shadow), shadow_bytes(end))
    while update := next_update(shadow, models):
        patch = {"models": update}
        shadow = msgspec.structs.replace(shadow, reported=patched(shadow.reported, patch))
        assert shadow_bytes(shadow) <= largest
        assert len(msgspec.json.encode({"reported": patch})) <= 2_000
    assert same(readable(shadow.reported), wanted)
    assert unreadable(shadow.reported) == strange
    assert shadow.reported.get("else") == reported.get("else")


def test_a_model_goes_whole_where_it_fits() -> None:
    models = {f"m{n}": {"model_id": f"m{n}", "note": "x" * 700} for n in range(4)}
    first = next_update(document(), models)
    assert first == {name: models[name] for name in ("m0", "m1")}


def test_a_large_model_goes_field_by_field() -> None:
    fields = {f"f{n}": str(n) * 900 for n in range(5)}
    shadow, steps = document(reported={}), []
    while update := next_update(shadow, {"m": fields}):
        steps.append(list(update["m"]))
        shadow = document(reported=patched(shadow.reported["models"], update))
    assert steps == [["f0", "f1"], ["f2", "f3"], ["f4"]]


def test_removals_go_first() -> None:
    shadow = document(reported={"old": {"note": "x" * 1_500}, "same": {"a": 1}})
    models: Models = {"new": {"note": "y" * 1_990}, "same": {"a": 1}}
    assert next_update(shadow, models) == {"old": None}


@unhurried
@given(base=ANYTHING, desired=ANYTHING, reported=ANYTHING, local=MODELS)
def test_no_document_is_too_strange(base: Any, desired: Any, reported: Any, local: Models) -> None:
    known = ShadowDocument(version=1, desired=base, reported=base)
    remote = ShadowDocument(version=2, desired=desired, reported=reported)
    theirs = reported_models(known, remote)
    merged = merge(readable(known.reported), local, theirs)
    for name, patch in desired_patches(known, remote, merged).items():
        assert normalize(patch) == patch != {}
        assert f"desired.models.{name}" not in invalid_paths(remote)


def test_what_became_unreadable_counts_as_unchanged() -> None:
    base = document(reported={"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}})
    remote = document(version=2, reported={"a": "text", "b": {"x": 2}})
    assert reported_models(base, remote) == {"a": {"x": 1}, "b": {"x": 2}}
    assert reported_models(base, document(version=2, reported="text")) == base.reported["models"]


@pytest.mark.parametrize(
    ("before", "now", "models", "expected"),
    [
        pytest.param({}, {"m": {"x": 1}}, {}, {"m": {"x": 1}}, id="a new model"),
        pytest.param({}, {"m": {"x": 1}}, {"m": {"y": 2}}, {"m": {"x": 1}}, id="a new field"),
        pytest.param({}, {"m": {"x": 1}}, {"m": {"x": 1}}, {}, id="met already"),
        pytest.param({"m": {"x": 1}}, {"m": {"x": 1}}, {"m": {"x": 2}}, {}, id="an old wish"),
        pytest.param({"m": {"x": 1}}, {"m": {"x": 1}}, {}, {}, id="an old wish for one deleted"),
        pytest.param({"m": {"x": 1, "y": 1}}, {"m": {"y": 1}}, {"m": {"x": 1}}, {}, id="back"),
        pytest.param({"m": {"x": 1}}, {}, {"m": {"x": 1}}, {}, id="back whole"),
        pytest.param(
            {"m": {"x": 1, "y": 1}}, {"m": {"x": 2, "y": 1}}, {"m": {"x": 5, "y": 5}},
            {"m": {"x": 2}}, id="one field changed",
        ),
        pytest.param(
            {"m": {"x": 1, "y": 1}}, {"m": {"x": 2, "y": 1}}, {},
            {"m": {"x": 2, "y": 1}}, id="one field of a deleted model changed",
        ),
        pytest.param(
            {"m": {"o": {"a": 1}}}, {"m": {"o": {"a": 1, "b": 2}}}, {"m": {"o": {"a": 3}}},
            {"m": {"o": {"b": 2}}}, id="a field within a field",
        ),
    ],
)  # fmt: skip
def test_wishes(before: Any, now: Any, models: Models, expected: Models) -> None:
    remote = document(version=2, desired=now)
    assert desired_patches(document(desired=before), remote, models) == expected
