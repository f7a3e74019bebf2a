"""The log gives nothing away."""

from __future__ import annotations

import logging

import pytest

from s3downloader import logs


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("GET /k?X-Amz-Signature=abc123&X-Amz-Date=20260101 HTTP", "abc123"),
        ("https://b/k?X-Amz-Credential=AKIA%2F1&x=1", "AKIA"),
        ('{"authToken": "F00D"}', "F00D"),
        ("Authorization: AWS4-HMAC-SHA256", "AWS4"),
        ("aws_secret_access_key=hush", "hush"),
        ("AWS_SESSION_TOKEN='hush'", "hush"),
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


def test_a_record_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.handlers = []
    try:
        logs.configure("INFO")
        try:
            raise ValueError("first line\nsecond line")
        except ValueError:
            logging.getLogger("x").exception("it failed")
        logs.configure("ERROR")
        logging.getLogger("x").warning("not shown")
    finally:
        root.setLevel(level)
        root.handlers = handlers
    [line] = capsys.readouterr().out.splitlines()
    assert "it failed" in line
    assert "second line" in line
