"""The parameters of the component, merged from arguments, environment and configuration.

A parameter such as `TopicPrefix` has this name in the component's configuration and in the YAML
file. In the environment its name is `S3DOWNLOADER_TOPIC_PREFIX`. EndpointUrl is also read from
`AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL`, as by the AWS SDKs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from .errors import DownloaderError, ErrorCode

__all__ = ["LIVE", "LiveSettings", "Settings", "load", "read_file", "unknown"]

_LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=86_400)]
_Delay = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
_MinInterval = Annotated[float, msgspec.Meta(ge=0, le=3_600)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=64)]
_Bytes = Annotated[int, msgspec.Meta(ge=0)]
_Patterns = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


def parameter_name(field: str) -> str:
    """Return the name of a field's parameter: `TopicPrefix` for the field `topic_prefix`."""
    return "".join(word.capitalize() for word in field.split("_"))


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename=parameter_name):
    """The parameters and their values.

    `*_interval` and `*_seconds` are in seconds, `*_bytes` in bytes. `max_bandwidth` is in bytes per
    second, 0 for no limit.
    """

    topic_prefix: Annotated[str, msgspec.Meta(pattern=r"^[^/+#\x00][^+#\x00]*[^/+#\x00]$|^\w$")] = (
        "s3downloader"
    )
    download_dir: Annotated[str, msgspec.Meta(pattern="^/")] = "/data/downloads/model"
    process_interval: _Seconds = 10.0
    idle_process_interval: _Seconds = 60.0
    status_min_interval: _MinInterval = 1.0
    log_level: _LogLevel = "INFO"
    s5cmd_version: Annotated[str, msgspec.Meta(pattern=r"^\d+\.\d+\.\d+\Z")] = "2.3.0"
    state_dir: str = "state"
    max_concurrent_downloads: _Count = 2
    max_bandwidth: _Bytes = 0
    endpoint_url: Annotated[str, msgspec.Meta(pattern="^https?://[^/]+")] | None = None
    allowed_sources: _Patterns = ("s3://*",)
    allowed_destinations: _Patterns = ("/data", "/tmp")
    min_free_bytes: _Bytes = 1 << 30
    max_payload_bytes: Annotated[int, msgspec.Meta(ge=2_000, le=131_072)] = 7_000
    shadow_max_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=1 << 20)] = 8_192
    defer_update_seconds: _Delay = 0.0

    @property
    def destination_roots(self) -> tuple[Path, ...]:
        """The directories that a destination must be in. DownloadDir is always one of them."""
        return tuple(Path(root) for root in (self.download_dir, *self.allowed_destinations))


LIVE = frozenset(
    {
        "LogLevel",
        "ProcessInterval",
        "IdleProcessInterval",
        "StatusMinInterval",
        "MaxConcurrentDownloads",
        "MaxBandwidth",
        "AllowedSources",
        "AllowedDestinations",
        "MinFreeBytes",
        "MaxPayloadBytes",
        "ShadowMaxBytes",
        "DeferUpdateSeconds",
    }
)
"""The parameters that can be changed without a restart."""

_ALLOWED = {
    "TopicPrefix": "topic levels without wildcards, with no `/` at either end",
    "DownloadDir": "an absolute path",
    "ProcessInterval": "seconds from 0.1 to 86400",
    "IdleProcessInterval": "seconds from 0.1 to 86400",
    "StatusMinInterval": "seconds from 0 to 3600",
    "LogLevel": "DEBUG, INFO, WARNING, ERROR or CRITICAL",
    "S5cmdVersion": "a version such as 2.3.0",
    "StateDir": "a path",
    "MaxConcurrentDownloads": "a whole number from 1 to 64",
    "MaxBandwidth": "bytes per second, a whole number, 0 for no limit",
    "EndpointUrl": "an http:// or https:// address",
    "AllowedSources": "one pattern or more, as a list or separated by commas, such as s3://my-bucket/*",
    "AllowedDestinations": "one directory or more, as a list or separated by commas",
    "MinFreeBytes": "a number of bytes, 0 or more",
    "MaxPayloadBytes": "a number of bytes from 2000 to 131072",
    "ShadowMaxBytes": "a number of bytes from 1024 to 1048576",
    "DeferUpdateSeconds": "seconds from 0 (never) to 86400",
}


def load(
    *,
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
    configuration: Mapping[str, Any],
) -> Settings:
    """Merge the parameters of all sources into Settings.

    `arguments` have priority over `environment`, and that over `configuration`. `arguments` and
    `configuration` map names of parameters to values; None and an empty text count as not given.
    Unknown names are ignored. Raises INVALID_FIELD if a value is not allowed.
    """
    values: dict[str, Any] = {}
    for layer in (configuration, _from_environment(environment), arguments):
        given = {name: value for name, value in layer.items() if value not in (None, "")}
        values.update({name: value for name, value in given.items() if name in _ALLOWED})
    return _convert(values)


def read_file(path: Path) -> dict[str, Any]:
    """Return the parameters in a YAML file. Raises INVALID_FIELD if it cannot be read."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DownloaderError(
            ErrorCode.INVALID_FIELD, f"cannot read the configuration file {path}: {error}"
        ) from error
    if not isinstance(content, dict):
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            f"the configuration file {path} must contain parameters, such as `LogLevel: INFO`",
        )
    return content


def unknown(configuration: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each unknown parameter. It suggests the known one with a close name."""
    sentences = []
    for name in configuration:
        if name not in _ALLOWED and name != "accessControl":
            near = difflib.get_close_matches(str(name), _ALLOWED, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            sentences.append(f"there is no parameter {name}{hint}")
    return sentences


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for endpoint in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        if environment.get(endpoint):
            found["EndpointUrl"] = environment[endpoint]
    for field in Settings.__struct_fields__:
        value = environment.get(f"S3DOWNLOADER_{field.upper()}")
        if value:
            found[parameter_name(field)] = value
    return found


def _convert(values: dict[str, Any]) -> Settings:
    for name in ("AllowedSources", "AllowedDestinations"):
        if isinstance(values.get(name), str):
            values[name] = [part.strip() for part in values[name].split(",") if part.strip()]
    if isinstance(values.get("LogLevel"), str):
        values["LogLevel"] = values["LogLevel"].upper()
    for name, value in values.items():
        _check(name, value)
    return msgspec.convert(values, Settings, strict=False)


def _check(name: str, value: Any) -> None:
    try:
        msgspec.convert({name: value}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise DownloaderError(
            ErrorCode.INVALID_FIELD,
            f"parameter {name} is {value!r}; allowed is {_ALLOWED[name]}",
            parameter=name,
        ) from error


class LiveSettings:
    """The settings in force, which a call returns. They follow changes of the configuration."""

    def __init__(
        self,
        *,
        arguments: Mapping[str, Any],
        environment: Mapping[str, str],
        configuration: Mapping[str, Any],
    ) -> None:
        """Load the settings as `load` does."""
        self._arguments = arguments
        self._environment = environment
        self._payload_cap: int | None = None
        self._current = self._load(configuration)

    def __call__(self) -> Settings:
        """Return the settings in force."""
        return self._current

    def update(self, configuration: Mapping[str, Any]) -> list[str]:
        """Apply a changed configuration. Return the changed parameters that need a restart.

        Raises INVALID_FIELD if a value is not allowed. Then no setting changes.
        """
        changed = self._load(configuration)
        fields = {name: parameter_name(name) for name in Settings.__struct_fields__}
        differing = [f for f in fields if getattr(changed, f) != getattr(self._current, f)]
        live = {f: getattr(changed, f) for f in differing if fields[f] in LIVE}
        self._current = self._capped(msgspec.structs.replace(self._current, **live))
        return [fields[f] for f in differing if fields[f] not in LIVE]

    def cap_payload(self, limit: int) -> None:
        """Limit MaxPayloadBytes to `limit` bytes from now on, whatever the configuration says."""
        self._payload_cap = limit
        self._current = self._capped(self._current)

    def _capped(self, settings: Settings) -> Settings:
        if self._payload_cap is None or settings.max_payload_bytes <= self._payload_cap:
            return settings
        return msgspec.structs.replace(settings, max_payload_bytes=self._payload_cap)

    def _load(self, configuration: Mapping[str, Any]) -> Settings:
        return load(
            arguments=self._arguments,
            environment=self._environment,
            configuration=configuration,
        )
