"""Topic filters."""

from __future__ import annotations

import pytest

from s3downloader.messaging.topics import matches


@pytest.mark.parametrize(
    ("topic_filter", "topic", "selected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("+/b", "a/b", True),
        ("#", "$aws/things", False),
        ("+/things", "$aws/things", False),
        ("$aws/#", "$aws/things", True),
        ("A/b", "a/b", False),
    ],
)
def test_filters_select_topics(topic_filter: str, topic: str, selected: bool) -> None:
    assert matches(topic_filter, topic) is selected
