"""The registry: what it stores, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.models.registry import Registry

from .registry_env import Device, encode

VLM = {"model_id": "vlm-7B", "model_name": "vlm-7B", "model_version": "2.5"}


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
async def registry(device: Device) -> AsyncIterator[Registry]:
    async with device.started(syncing=False) as registry:
        yield registry


async def test_a_model_is_kept_as_given(registry: Registry) -> None:
    model = await registry.add({**VLM, "runtime": {"gpu": True}, "tags": ["a", "b"]})
    assert model == {
        **VLM,
        "runtime": {"gpu": True},
        "tags": ["a", "b"],
        "last_updated": 1_700_000_000,
    }
    assert registry.get("vlm-7B") == model


async def test_models_are_listed_by_their_ids(registry: Registry) -> None:
    for model_id in ("b", "c", "a"):
        await registry.add({"model_id": model_id})
    assert [model["model_id"] for model in registry.models()] == ["a", "b", "c"]


async def test_an_update_leaves_other_fields(device: Device, registry: Registry) -> None:
    await registry.add({**VLM, "note": "first", "local_path": "/data/vlm"})
    device.clock.advance(1.5)
    model = await registry.add({"model_id": "vlm-7B", "model_version": "3.0", "note": None})
    assert model == {
        "model_id": "vlm-7B",
        "model_name": "vlm-7B",
        "model_version": "3.0",
        "local_path": "/data/vlm",
        "last_updated": 1_700_000_001,
    }


async def test_a_download_says_where_its_model_is(registry: Registry) -> None:
    meta = {"model_name": "m", "local_path": "elsewhere", "model_id": "ignored"}
    model = registry.updated(meta, model_id="m.gguf", local_path="/data/m.gguf")
    assert (model["model_id"], model["local_path"]) == ("m.gguf", "/data/m.gguf")


async def test_an_entry_alone_changes_nothing(registry: Registry) -> None:
    model = registry.updated(VLM, model_id="vlm-7B", local_path=None)
    assert registry.models() == []
    registry.adopt({"vlm-7B": model})
    assert registry.models() == [model]


async def test_a_deleted_model_is_gone(registry: Registry) -> None:
    model = await registry.add(VLM)
    assert await registry.delete("vlm-7B") == model
    assert registry.models() == []


@pytest.mark.parametrize(
    ("model_id", "hint"),
    [("vlm-7b", "did you mean 'vlm-7B'?"), ("other", "model_list lists")],
)
async def test_a_model_that_is_not_there(registry: Registry, model_id: str, hint: str) -> None:
    await registry.add(VLM)
    with pytest.raises(DownloaderError) as refusal:
        registry.get(model_id)
    assert refusal.value.code is ErrorCode.MODEL_NOT_FOUND
    assert hint in refusal.value.message
    with pytest.raises(DownloaderError, match="there is no model"):
        await registry.delete(model_id)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"model_id": ""},
        {"model_id": "a\nb"},
        {"model_id": 7},
        {"model_id": "m", "runtime": {"a": {"b": {"c": 1}}}},
        {"model_id": "m", "tags": [None]},
    ],
)
async def test_what_a_shadow_cannot_hold_is_refused(registry: Registry, meta: Any) -> None:
    with pytest.raises(DownloaderError) as refusal:
        await registry.add(meta)
    assert refusal.value.code is ErrorCode.INVALID_FIELD
    assert registry.models() == []


async def test_a_full_registry_refuses_and_loses_nothing(
    device: Device, registry: Registry
) -> None:
    device.max_bytes = 1_024
    first = await registry.add({"model_id": "first", "note": "x" * 500})
    second = {"model_id": "second", "note": "y" * 500}
    with pytest.raises(DownloaderError) as refusal:
        await registry.add(second)
    assert refusal.value.code is ErrorCode.REGISTRY_FULL
    assert registry.models() == [first]

    needed = refusal.value.details["bytes"]
    assert refusal.value.details["limit"] == 1_024
    assert "'second'" in refusal.value.message
    assert f"{needed} bytes, and its limit is 1024" in refusal.value.message
    device.max_bytes = needed
    both = {"first": first, "second": await registry.add(second)}
    assert len(encode({"models": both})) == needed


async def test_models_outlive_the_process(device: Device) -> None:
    async with device.started(syncing=False) as registry:
        kept = await registry.add(VLM)
        await registry.add({"model_id": "brief"})
        await registry.delete("brief")
    async with device.started(syncing=False) as registry:
        assert registry.models() == [kept]
