"""Reads the shadow and the configuration over Greengrass IPC, and follows their changes."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from awsiot.eventstreamrpc import LifecycleHandler
from awsiot.greengrasscoreipc import connect
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import ResourceNotFoundError, ServiceError

__all__ = ["ModelEntry", "NoShadowsError", "Nucleus"]

T = TypeVar("T")

log = logging.getLogger(__name__)

_SHADOW = "models"
_TIMEOUT = 10.0  # seconds


class ModelEntry(NamedTuple):
    """A model's entry in the shadow: the fields whose change means that it must be opened again."""

    version: str
    local_path: str


class NoShadowsError(Exception):
    """The nucleus has no shadow service, or the service does not answer."""


class Nucleus:
    """A connection to the nucleus. It does not reconnect: the process must end if it is lost.

    The event `changed` is set when the shadow or the configuration may have changed, and when the
    connection is `lost`. Threads of the SDK set it, and must not be blocked.
    """

    def __init__(self, thing_name: str) -> None:
        """Connect and subscribe. Raises the SDK's errors if that fails."""
        self.changed = threading.Event()
        self.lost = False
        self._thing_name = thing_name
        self._ipc = GreengrassCoreIPCClientV2(
            connect(lifecycle_handler=_Lifecycle(self._lose)), executor=None
        )
        # ShadowManager reports all changes on local topics, also those made in the cloud.
        for change in ("update", "delete"):
            topic = f"$aws/things/{thing_name}/shadow/name/{_SHADOW}/{change}/accepted"
            subscribed, _ = self._ipc.subscribe_to_topic_async(
                topic=topic, on_stream_event=self._notice, on_stream_closed=self._lose
            )
            subscribed.result(_TIMEOUT)
        subscribed, _ = self._ipc.subscribe_to_configuration_update_async(
            on_stream_event=self._notice, on_stream_closed=self._lose
        )
        subscribed.result(_TIMEOUT)

    def model_id(self) -> str:
        """Return the parameter ModelId."""
        configuration = _answer(self._ipc.get_configuration_async()).value
        return str(configuration["ModelId"])

    def entry(self, model_id: str) -> ModelEntry | None:
        """Return the entry of a model in the shadow; None if it has none with a local_path.

        Raises NoShadowsError.
        """
        future = self._ipc.get_thing_shadow_async(thing_name=self._thing_name, shadow_name=_SHADOW)
        try:
            document = json.loads(_answer(future).payload)
        except ResourceNotFoundError:
            return None
        except ServiceError as error:
            raise NoShadowsError(repr(error)) from error
        model = _at(document, "state", "reported", "models", model_id)
        path = _at(model, "local_path")
        return ModelEntry(str(_at(model, "model_version")), path) if isinstance(path, str) else None

    def _notice(self, _event: object) -> None:
        self.changed.set()

    def _lose(self) -> None:
        self.lost = True
        self.changed.set()


class _Lifecycle(LifecycleHandler):  # type: ignore[misc]  # the SDK is not typed
    def __init__(self, on_lost: Any) -> None:
        self._on_lost = on_lost

    def on_disconnect(self, reason: Exception | None) -> None:
        log.error("the nucleus dropped the IPC connection: %s", reason)
        self._on_lost()


def _answer(future: Future[T]) -> T:
    return future.result(_TIMEOUT)


def _at(value: Any, *path: str) -> Any:
    """Return the value at a path of keys, or None: others may have written any JSON there."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
