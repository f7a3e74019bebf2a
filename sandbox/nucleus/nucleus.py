"""The local nucleus: all services that a component uses over Greengrass IPC."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ..shadows import ShadowDocuments
from .authorization import AccessControl
from .credentials import CredentialsEndpoint
from .faults import Faults
from .iot_core import IotCore
from .operations.configuration import Configurations
from .operations.iot_core import IotCoreOperations
from .operations.lifecycle import ComponentUpdates
from .operations.pubsub import LocalTopics
from .operations.shadows import ShadowOperations
from .personality import PERSONALITIES, Personality
from .server import Json, RpcServer

__all__ = ["TOKEN_EXCHANGE", "Nucleus"]

TOKEN_EXCHANGE = "aws.greengrass.TokenExchangeService"
_MAX_SOCKET_PATH = 107  # bytes; sun_path of unix(7) without its terminating null byte


class Nucleus:
    """Serves Greengrass IPC on a Unix socket in `directory`; an async context manager.

    The MQTT broker on 127.0.0.1:`broker_port` stands in for IoT Core. `shadows` are those of the
    shadow service; by default the nucleus has its own. `credentials` are what the token exchange
    service gives to components: access key, secret key and, optionally, session token, under the
    names of AWS's environment variables.

    Set attributes of `faults` to make the nucleus fail. Entering the context raises
    ConnectionError if there is no broker.
    """

    def __init__(
        self,
        *,
        thing_name: str,
        directory: Path,
        broker_port: int,
        personality: Literal["java", "lite"] | Personality = "java",
        shadows: ShadowDocuments | None = None,
        region: str = "us-east-1",
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.thing_name = thing_name
        self.region = region
        self.faults = Faults()
        self.shadows = shadows or ShadowDocuments()
        if isinstance(personality, str):
            personality = PERSONALITIES[personality]
        self.personality = personality
        self.iot_core = IotCore(broker_port, self.personality, self.faults)
        self._directory = directory
        self._tokens: dict[str, str] = {}
        self._access: dict[str, AccessControl] = {}
        self._configurations = Configurations(self.faults)
        self._updates = ComponentUpdates()
        self._topics = LocalTopics(self._access)
        self._shadow_operations = ShadowOperations(
            self.shadows,
            self._access,
            self._topics,
            supported=self.personality.shadows,
        )
        self.credentials = CredentialsEndpoint(
            credentials or {},
            authorised=self._knows_token,
            personality=self.personality,
            on_start=self._publish_exchange_port,
        )
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Nucleus:
        async with self._stack as stack:
            self.socket_path = stack.enter_context(_socket_path(self._directory))
            self._server = RpcServer(
                self.socket_path,
                {
                    **IotCoreOperations(self.iot_core, self._access, self.personality).operations(),
                    **self._topics.operations(),
                    **self._shadow_operations.operations(),
                    **self._configurations.operations(),
                    **self._updates.operations(
                        asks_before_updates=self.personality.asks_before_updates
                    ),
                },
                authenticate=self._authenticate,
                with_messages=self.personality.error_messages,
                refuses_by_closing=self.personality.refuses_by_closing,
                max_request=self.personality.max_request,
            )
            stack.callback(self.shadows.listen(self._shadow_operations.publish))
            await stack.enter_async_context(self.iot_core)
            await stack.enter_async_context(self.credentials)
            await self._server.start()
            stack.push_async_callback(self._server.stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def register(
        self,
        component: str,
        access_control: Mapping[str, Any] | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a component, with its `accessControl` and its other configuration."""
        self._tokens[component] = _new_token()
        self._access[component] = AccessControl(
            component, access_control or {}, thing_name=self.thing_name
        )
        values = dict(configuration or {})
        if self.personality.scalars_as_strings:
            values = _scalars_as_strings(values)
        self._configurations.register(component, {**values, "accessControl": access_control or {}})

    def component_environment(self, component: str) -> dict[str, str]:
        """Return the environment variables that the nucleus gives to a component's processes."""
        return {
            "SVCUID": self._tokens[component],
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(self.socket_path),
            "AWS_IOT_THING_NAME": self.thing_name,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._tokens[component],
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.credentials.uri,
        }

    def connected(self, component: str) -> bool:
        """Return whether the component has an IPC connection."""
        return self._server.connected(component)

    def set_configuration(self, component: str, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the component's configuration and notify its subscribers."""
        self._configurations.merge(component, patch)

    def replace_configuration(self, component: str, configuration: Mapping[str, Any]) -> None:
        """Replace the component's configuration, without notifying its subscribers."""
        self._configurations.register(component, configuration)

    def configuration(self, component: str) -> Json:
        """Return the component's present configuration."""
        return self._configurations.get(component)

    def work_folder(self, component: str) -> Path:
        """Return the folder in which the component's scripts run; create it if necessary."""
        folder = self._directory / "work" / component
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log_file(self, component: str) -> Path:
        """Return the path of the file with the output of the component's scripts."""
        folder = self._directory / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{component}.log"

    def states(self, component: str) -> list[str]:
        """Return the states that the component has reported with UpdateState, in order."""
        return list(self._updates.states.get(component, []))

    async def propose_update(
        self, deployment_id: str = "deployment-1", *, restarting: bool = False, within: float = 60
    ) -> dict[str, int]:
        """Ask the components that subscribed to updates; return by how many ms each defers it.

        Raises TimeoutError if one has not answered `within` seconds.
        """
        return await self._updates.propose(deployment_id, restarting=restarting, within=within)

    def finish_update(self, deployment_id: str = "deployment-1") -> None:
        """Notify the components that subscribed to updates that the update is complete."""
        self._updates.finish(deployment_id)

    async def drop_connection(self, component: str) -> None:
        """Close the component's IPC connection; it may connect again."""
        await self._server.drop(component)

    def end_streams(self, component: str) -> None:
        """End the component's subscriptions and notify it; the connection stays open."""
        self._server.end_streams(component)

    async def restart(self, *, forget_tokens: bool = False) -> None:
        """Restart the IPC server. With `forget_tokens` all tokens of components become invalid."""
        async with self.away():
            if forget_tokens:
                self._tokens = {component: _new_token() for component in self._tokens}

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Stop the IPC server for the duration of the context."""
        await self._server.stop()
        yield
        await self._server.start()

    async def forget_subscriptions(self) -> None:
        """Make every SubscribeToIoTCore dead: its stream stays open, but delivers nothing."""
        await self.iot_core.forget_subscriptions()

    @property
    def configuration_watchers(self) -> int:
        """The number of SubscribeToConfigurationUpdate that are notified of changes."""
        return self._configurations.watchers

    def forget_configuration_subscriptions(self) -> None:
        """Make every SubscribeToConfigurationUpdate dead: its stream stays open."""
        self._configurations.forget_watchers()

    def set_access_control(self, component: str, access_control: Mapping[str, Any]) -> None:
        """Replace the component's policies, as a deployment does that does not restart it."""
        self._access[component] = AccessControl(
            component, access_control, thing_name=self.thing_name
        )

    def _authenticate(self, token: str) -> str | None:
        if self.faults.refuse_connections:
            return None
        if self.faults.cut_handshakes:
            self.faults.cut_handshakes -= 1
            return None
        return next((name for name, known in self._tokens.items() if known == token), None)

    def _knows_token(self, token: str) -> bool:
        return token in self._tokens.values()

    def _publish_exchange_port(self, port: int) -> None:
        """Write the port to the configuration of TokenExchangeService, as that does itself."""
        if key := self.personality.exchange_port_key:
            value = str(port) if self.personality.scalars_as_strings else port
            self._configurations.register(TOKEN_EXCHANGE, {key: value})


def _new_token() -> str:
    return secrets.token_hex(8).upper()


@contextlib.contextmanager
def _socket_path(directory: Path) -> Iterator[Path]:
    """Yield a path for the socket in `directory`, or in /tmp if the path would be too long."""
    path = directory / "ipc.socket"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        yield path
        return
    short = Path(tempfile.mkdtemp(prefix="nucleus-"))
    try:
        yield short / "ipc.socket"
    finally:
        shutil.rmtree(short)


def _scalars_as_strings(values: Json) -> Json:
    return {key: _as_string(value) for key, value in values.items()}


def _as_string(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _scalars_as_strings(dict(value))
    if isinstance(value, list):
        return [_as_string(item) for item in value]
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None else str(value)
