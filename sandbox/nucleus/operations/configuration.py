"""Implements GetConfiguration, UpdateConfiguration and SubscribeToConfigurationUpdate."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidArgumentsError, ResourceNotFoundError, ServiceError
from ..faults import Faults
from ..server import Json, Operation, Stream

__all__ = ["Configurations"]

_Path = tuple[str, ...]


@dataclass(eq=False)
class _Watcher:
    component: str
    key_path: _Path
    stream: Stream


class Configurations:
    """The configurations of all components: nested objects, by the component's name."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._by_component: dict[str, Json] = {}
        self._watchers: list[_Watcher] = []

    def operations(self) -> dict[str, Operation]:
        return {
            "GetConfiguration": Operation(self._get),
            "UpdateConfiguration": Operation(self._update),
            "SubscribeToConfigurationUpdate": Operation(
                self._subscribe, "ConfigurationUpdateEvents"
            ),
        }

    def register(self, component: str, configuration: Mapping[str, Any]) -> None:
        """Set or replace a component's configuration, without notifying subscribers."""
        self._by_component[component] = copy.deepcopy(dict(configuration))

    def get(self, component: str) -> Json:
        return copy.deepcopy(self._by_component[component])

    def merge(self, component: str, patch: Mapping[str, Any], at: _Path = ()) -> None:
        """Merge `patch` into the object at the key path `at`, and notify the subscribers.

        As the nucleus does, it sends one event for each value that has changed.
        """
        node = self._by_component[component]
        for key in at:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise InvalidArgumentsError(f"{'/'.join(at)} is a value, not an object")
        for changed in list(_merge(node, patch, at)):
            self._notify(component, changed)

    @property
    def watchers(self) -> int:
        """The number of subscriptions that are notified of changes."""
        return len(self._watchers)

    def forget_watchers(self) -> None:
        """End all subscriptions silently, as nucleus lite does when its ggconfigd restarts."""
        self._watchers.clear()

    def _notify(self, component: str, changed: _Path) -> None:
        event = {"componentName": component, "keyPath": list(changed)}
        for watcher in list(self._watchers):
            if watcher.component == component and changed[: len(watcher.key_path)] == (
                watcher.key_path
            ):
                watcher.stream.send(
                    "ConfigurationUpdateEvents", {"configurationUpdateEvent": event}
                )

    async def _get(self, stream: Stream, request: Json) -> Json:
        component, path = _target(stream, request)
        value = self._find(component, path)
        if not isinstance(value, dict):
            value = {path[-1]: value}
        return {"componentName": component, "value": value}

    async def _update(self, stream: Stream, request: Json) -> Json:
        component, path = _target(stream, request)
        patch = request.get("valueToMerge")
        if not isinstance(patch, dict):
            raise InvalidArgumentsError("valueToMerge must be an object")
        if "accessControl" in (path[:1] or patch):
            raise InvalidArgumentsError("Config update is not allowed for accessControl")
        self.merge(component, patch, path)
        return {}

    async def _subscribe(self, stream: Stream, request: Json) -> Json:
        component, path = _target(stream, request)
        self._find(component, path)
        watcher = _Watcher(component, path, stream)
        self._watchers.append(watcher)
        stream.on_close(lambda: self._forget(watcher))
        return {}

    def _forget(self, watcher: _Watcher) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def _find(self, component: str, path: _Path) -> Any:
        if self._faults.fail_configuration:
            raise ServiceError("the configuration cannot be read")
        node: Any = self._by_component.get(component)
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        if node is None:
            raise ResourceNotFoundError("Key not found")
        return node


def _target(stream: Stream, request: Json) -> tuple[str, _Path]:
    return request.get("componentName") or stream.component, tuple(request.get("keyPath") or ())


def _merge(node: Json, patch: Mapping[str, Any], path: _Path) -> Iterator[_Path]:
    """Merge `patch` into `node`; yield the key path of each value that has changed."""
    for key, value in patch.items():
        old = node.get(key)
        if isinstance(value, Mapping):
            child = node[key] = old if isinstance(old, dict) else {}
            yield from _merge(child, value, (*path, key))
        elif old != value or key not in node:
            node[key] = value
            yield (*path, key)
