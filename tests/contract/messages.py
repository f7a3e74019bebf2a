"""Generates the device's messages with hypothesis."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from s3downloader.contract.responses import ObjectView

QUICK = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be busy
)

_TEXT = st.builds(lambda text, times: text * times, st.text(), st.sampled_from([1, 1, 900]))
_PRESENTABLE = st.characters(exclude_categories=["Cs", "Cc"])
_ID = st.text(_PRESENTABLE, min_size=1, max_size=128).filter(lambda text: len(text.encode()) <= 128)
_FREE = st.dictionaries(
    _TEXT,
    st.recursive(
        st.none() | st.integers() | _TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
        max_leaves=5,
    ),
)
_SIZES = st.integers(0, 2**63 - 1)
OBJECTS = st.builds(
    ObjectView,
    key=st.text(max_size=1_024).filter(lambda key: len(key.encode()) <= 1_024),
    size=_SIZES,
    etag=_TEXT,
)
_BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "command_id": _ID,
    "command": _ID,
    "download_id": _ID,
    "model_id": _ID,
    "models": st.lists(st.builds(lambda model, id_: {**model, "model_id": id_}, _FREE, _ID)),
    "objects": st.lists(OBJECTS),
    "next_token": st.text("abc", min_size=1, max_size=1_400),
}
_BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: _TEXT,
    int: _SIZES,
    float: st.floats(0, 1e12),
    msgspec.UnsetType: st.just(msgspec.UNSET),
}


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for values of a field's type, many of them too large for a message."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        return st.builds(kind, **{n: _BY_NAME.get(n, anything(t)) for n, t in fields.items()})
    arguments = get_args(kind)
    origin = get_origin(kind)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([anything(argument) for argument in arguments])
    if origin is list:
        return st.lists(anything(arguments[0]), max_size=8)
    if origin is dict:
        return _FREE
    return _BY_TYPE[kind] if kind in _BY_TYPE else st.from_type(kind)
