"""What the consumer needs of the nucleus, over Greengrass IPC."""

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

__all__ = ["Named", "NoShadowsError", "Nucleus"]

T = TypeVar("T")

log = logging.getLogger(__name__)

_SHADOW = "models"
_TIMEOUT = 10.0


class Named(NamedTuple):
    """What the shadow says of a model, as far as it tells whether to open it anew."""

    version: str
    local_path: str


class NoShadowsError(Exception):
    """The nucleus has no shadow service, or that does not answer."""


class Nucleus:
    """One connection, which is not repaired: whoever has lost it ends, and is started again.

    `news` is set when the shadow or the configuration may have changed, and when the connection is
    `lost`. Its callers are threads of the SDK, which nothing may hold up.
    """

    def __init__(self, thing_name: str) -> None:
        """Connect and subscribe. Raises what the SDK does when that cannot be."""
        self.news = threading.Event()
        self.lost = False
        self._thing_name = thing_name
        self._ipc = GreengrassCoreIPCClientV2(
            connect(lifecycle_handler=_Lifecycle(self._lose)), executor=None
        )
        # ShadowManager tells of every change, also of those from the cloud, on local topics.
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
        """The parameter ModelId."""
        configuration = _answer(self._ipc.get_configuration_async()).value
        return str(configuration["ModelId"])

    def named(self, model_id: str) -> Named | None:
        """What the shadow names under that id, None where it names nothing that can be opened."""
        future = self._ipc.get_thing_shadow_async(thing_name=self._thing_name, shadow_name=_SHADOW)
        try:
            document = json.loads(_answer(future).payload)
        except ResourceNotFoundError:
            return None
        except ServiceError as error:
            raise NoShadowsError(repr(error)) from error
        model = _at(document, "state", "reported", "models", model_id)
        path = _at(model, "local_path")
        return Named(str(_at(model, "model_version")), path) if isinstance(path, str) else None

    def _notice(self, _event: object) -> None:
        self.news.set()

    def _lose(self) -> None:
        self.lost = True
        self.news.set()


class _Lifecycle(LifecycleHandler):  # type: ignore[misc]  # the SDK is not typed
    def __init__(self, on_lost: Any) -> None:
        self._on_lost = on_lost

    def on_disconnect(self, reason: Exception | None) -> None:
        log.error("the nucleus dropped the IPC connection: %s", reason)
        self._on_lost()


def _answer(future: Future[T]) -> T:
    return future.result(_TIMEOUT)


def _at(value: Any, *path: str) -> Any:
    """Follow keys into nested objects, to None where there is nothing: anybody may write them."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
