"""The log has no secrets."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from s3downloader.core import logs
from s3downloader.core.log_once import LogOnce


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("GET /k?X-Amz-Signature=abc123&X-Amz-Date=20260101 HTTP", "abc123"),
        ("https://b/k?X-Amz-Credential=AKIA%2F1&x=1", "AKIA"),
        ('{"authToken": "F00D"}', "F00D"),
        ("Authorization: AWS4-HMAC-SHA256", "AWS4"),
        ("aws_secret_access_key=hush", "hush"),
        ("AWS_SESSION_TOKEN='hush'", "hush"),
        ('{"SecretAccessKey": "hush", "Expiration": ""}', "hush"),
        ('{"secretAccessKey":"hush"}', "hush"),
        ("sessionToken=hush", "hush"),
        ("connected to mqtt://user:hush@host:1883", "hush"),
    ],
)
def test_secrets_are_hidden(text: str, hidden: str) -> None:
    assert hidden in text
    assert hidden not in logs.redact(text)
    assert "***" in logs.redact(text)


def test_what_is_no_secret_stays() -> None:
    for text in ("download d1 is queued", "s3://bucket/key?x=1", "password rules of the site"):
        assert logs.redact(text) == text


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger as a process starts with it; the changes of the test are undone."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.handlers = []
    yield root
    root.setLevel(level)
    root.handlers = handlers


@pytest.mark.usefixtures("root")
def test_a_record_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    try:
        raise ValueError("first line\nsecond line")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    logs.configure("ERROR")
    logging.getLogger("x").warning("not shown")
    [line] = capsys.readouterr().out.splitlines()
    assert "it failed" in line
    assert "second line" in line


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("control", "shown"),
    [
        *((end, ascii(end)[1:-1]) for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"),
        ("\x00", "\\x00"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("\x7f", "\\x7f"),
        ("\u202e", "\\u202e"),
        ("\u2066", "\\u2066"),
    ],
    ids=ascii,
)
def test_a_record_is_one_line_for_every_reader(
    capsys: pytest.CaptureFixture[str], control: str, shown: str
) -> None:
    logs.configure("INFO")
    logging.getLogger("x").info("refused key: %s", f"a{control}2026 CRITICAL x: b")
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert control not in out.removesuffix("\n")
    assert f"refused key: a{shown}2026 CRITICAL x: b" in out


@pytest.mark.usefixtures("root")
def test_what_is_no_control_is_logged_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logging.getLogger("x").info("Modèle\t模型 🚀")
    assert "x: Modèle\t模型 🚀\n" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_encoding_of_stdout_costs_a_record(encoding: str) -> None:
    script = (
        "import logging; from s3downloader.core import logs; logs.configure('INFO');"
        "logging.info('file %s of 模型', b'caf\\xe9'.decode('utf-8', 'surrogateescape'))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    assert run.stderr == b""
    assert b"file caf\\udce9 of " in run.stdout
    assert len(run.stdout.splitlines()) == 1


def test_a_trouble_that_lasts_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    once = LogOnce(logging.getLogger("x"))
    for place in ("a", "a", "b"):
        once.report("%s is away: %r", place, OSError(1, "no"))
    once.report("100% away")
    once.reset()
    once.report("100% away")
    assert caplog.messages == [
        "a is away: PermissionError(1, 'no')",
        "b is away: PermissionError(1, 'no')",
        "100% away",
        "100% away",
    ]
