"""Broker URLs and certificates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.messaging.mqtt.endpoint import Endpoint, parse_url, tls_context
from sandbox.servers import Broker


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("mqtt://broker", Endpoint("mqtt", "broker", 1883)),
        ("mqtts://broker", Endpoint("mqtts", "broker", 8883)),
        ("mqtts://broker:443/", Endpoint("mqtts", "broker", 443)),
        ("mqtt://[::1]:1883", Endpoint("mqtt", "::1", 1883)),
        ("mqtt://me:p%40ss%2F@broker", Endpoint("mqtt", "broker", 1883, "me", "p@ss/")),
    ],
)
def test_urls(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("broker:1883", "its scheme is broker"),
        ("//broker", "its scheme is missing"),
        ("https://me:secret@broker", "its scheme is https"),
        ("mqtt://", "no host"),
        ("mqtt://me:secret@broker:many", "malformed"),
        ("mqtt://me:secret@broker:70000", "malformed"),
        ("mqtt://me:secret@[::1", "malformed"),
        ("mqtt://broker/topic", "continues after host"),
    ],
)
def test_bad_urls_get_a_sentence_without_the_password(url: str, complaint: str) -> None:
    with pytest.raises(DownloaderError, match=complaint) as refusal:
        parse_url(url)
    assert refusal.value.code == ErrorCode.INVALID_FIELD
    assert "secret" not in refusal.value.message


def test_an_endpoint_prints_without_credentials() -> None:
    endpoint = parse_url("mqtts://me:secret@[::1]")
    assert str(endpoint) == "mqtts://[::1]:8883"
    assert "secret" not in repr(endpoint)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Broker:
    """A broker that is never started; only its certificates are used."""
    return Broker(tmp_path_factory.mktemp("authority"), tls=True)


@pytest.fixture
def rubbish(tmp_path: Path) -> Path:
    file = tmp_path / "rubbish.pem"
    file.write_text("rubbish")
    return file


@pytest.mark.parametrize("port", [443, 8883])
def test_good_certificates_serve(authority: Broker, port: int) -> None:
    endpoint = parse_url(f"mqtts://broker:{port}")
    assert tls_context(endpoint, ca=authority.ca, cert=authority.cert, key=authority.key)
    assert tls_context(endpoint, ca=authority.ca, cert=None, key=None)
    assert tls_context(endpoint, ca=None, cert=None, key=None)


def test_without_encryption_there_is_nothing_to_set_up() -> None:
    assert tls_context(parse_url("mqtt://broker"), ca=None, cert=None, key=None) is None


@pytest.mark.parametrize("spoilt", ["ca", "cert", "key"])
def test_a_bad_file_is_named(authority: Broker, rubbish: Path, spoilt: str) -> None:
    files = {"ca": authority.ca, "cert": authority.cert, "key": authority.key} | {spoilt: rubbish}
    _expect_refusal("mqtts://broker", files, naming="rubbish.pem")


def test_a_missing_file_is_named(authority: Broker, tmp_path: Path) -> None:
    files = {"ca": tmp_path / "nowhere.pem", "cert": authority.cert, "key": authority.key}
    _expect_refusal("mqtts://broker", files, naming="nowhere.pem cannot be read: No such file")


def test_a_foreign_key_is_refused(authority: Broker, tmp_path: Path) -> None:
    other = Broker(tmp_path, tls=True)
    files = {"ca": authority.ca, "cert": authority.cert, "key": other.key}
    _expect_refusal("mqtts://broker", files, naming="are not a certificate and its key")


def test_a_certificate_needs_its_key(authority: Broker) -> None:
    files = {"ca": authority.ca, "cert": authority.cert, "key": None}
    _expect_refusal("mqtts://broker", files, naming="need each other")


def test_certificates_need_encryption(authority: Broker) -> None:
    files = {"ca": authority.ca, "cert": None, "key": None}
    _expect_refusal("mqtt://broker", files, naming="not encrypted")


def _expect_refusal(url: str, files: Mapping[str, Path | None], *, naming: str) -> None:
    with pytest.raises(DownloaderError, match=naming) as refusal:
        tls_context(parse_url(url), ca=files["ca"], cert=files["cert"], key=files["key"])
    assert refusal.value.code == ErrorCode.INVALID_FIELD
