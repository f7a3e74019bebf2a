"""Settings are converted, merged by precedence, refused with a text, and changed while running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s3downloader.core.errors import DownloaderError
from s3downloader.core.settings import LiveSettings, Settings, load, read_file, unknown


def of(**layers: Any) -> Settings:
    return load(**{"arguments": {}, "environment": {}, "configuration": {}, **layers})


def test_defaults_are_those_of_the_documentation() -> None:
    settings = of()
    assert (settings.topic_prefix, settings.process_interval, settings.idle_process_interval) == (
        "s3downloader",
        10.0,
        60.0,
    )
    assert (settings.max_payload_bytes, settings.shadow_max_bytes) == (7_000, 8_192)
    assert settings.min_free_bytes == 1 << 30
    assert settings.destination_roots == (
        Path("/data/downloads/model"),
        Path("/data"),
        Path("/tmp"),
    )


def test_an_argument_wins_over_environment_over_configuration() -> None:
    layers: dict[str, Any] = {"configuration": {"LogLevel": "ERROR", "TopicPrefix": "a"}}
    assert of(**layers).log_level == "ERROR"
    layers["environment"] = {"S3DOWNLOADER_LOG_LEVEL": "WARNING"}
    assert of(**layers).log_level == "WARNING"
    layers["arguments"] = {"LogLevel": "DEBUG", "TopicPrefix": None}
    assert (of(**layers).log_level, of(**layers).topic_prefix) == ("DEBUG", "a")


def test_the_endpoint_is_found_where_the_sdks_find_it() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://general:1"}
    assert of(environment=environment).endpoint_url == "http://general:1"
    environment["AWS_ENDPOINT_URL_S3"] = "http://s3:2"
    assert of(environment=environment).endpoint_url == "http://s3:2"
    environment["S3DOWNLOADER_ENDPOINT_URL"] = "http://own:3"
    assert of(environment=environment).endpoint_url == "http://own:3"


def test_strings_are_coerced() -> None:
    settings = of(
        configuration={
            "ProcessInterval": "2.5",
            "MaxConcurrentDownloads": "4",
            "LogLevel": "debug",
            "AllowedSources": "s3://a/*, s3://b/*",
            "AllowedDestinations": ["/data"],
            "S5cmdVersion": "2.3.0",
        }
    )
    assert (settings.process_interval, settings.max_concurrent_downloads) == (2.5, 4)
    assert settings.log_level == "DEBUG"
    assert settings.allowed_sources == ("s3://a/*", "s3://b/*")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ProcessInterval", "soon"),
        ("ProcessInterval", 0),
        ("ProcessInterval", "nan"),
        ("IdleProcessInterval", -1),
        ("LogLevel", "LOUD"),
        ("MaxConcurrentDownloads", 2.5),
        ("MaxConcurrentDownloads", 0),
        ("MaxBandwidth", -1),
        ("MaxBandwidth", "1.5"),
        ("MaxBandwidth", "fast"),
        ("MinFreeBytes", True),
        ("MinFreeBytes", "-1"),
        ("TopicPrefix", "a/#"),
        ("TopicPrefix", "/a"),
        ("TopicPrefix", "a/"),
        ("DownloadDir", "relative"),
        ("EndpointUrl", "ftp://x"),
        ("AllowedSources", []),
        ("MaxPayloadBytes", 100),
        ("S5cmdVersion", "newest"),
        ("S5cmdVersion", "2.3.0/../.."),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(DownloaderError) as caught:
        of(configuration={name: value})
    assert f"parameter {name} is {value!r}; allowed is " in caught.value.message


def test_an_unknown_parameter_is_told_with_the_nearest() -> None:
    assert unknown({"LogLevell": 1, "accessControl": {}, "LogLevel": "INFO"}) == [
        "there is no parameter LogLevell; did you mean LogLevel?"
    ]


@pytest.mark.parametrize("text", ["- a\n- b\n", "{", "just text"])
def test_a_configuration_file_must_hold_parameters(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(DownloaderError, match="configuration file"):
        read_file(path)
    with pytest.raises(DownloaderError, match="cannot read"):
        read_file(tmp_path / "missing.yaml")


def test_live_parameters_change_and_others_wait_for_a_restart() -> None:
    live = LiveSettings(arguments={}, environment={}, configuration={})
    waiting = live.update({"LogLevel": "ERROR", "MaxConcurrentDownloads": "7", "TopicPrefix": "x"})
    assert waiting == ["TopicPrefix"]
    assert (live().log_level, live().max_concurrent_downloads) == ("ERROR", 7)
    assert live().topic_prefix == "s3downloader"
    with pytest.raises(DownloaderError):
        live.update({"LogLevel": "LOUD"})
    assert live().log_level == "ERROR"
