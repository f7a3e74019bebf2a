"""Sources and objects by their names."""

from __future__ import annotations

from s3downloader.core.objects import SourceRef


def test_a_source_is_its_uri() -> None:
    assert str(SourceRef("s3", "models", "vlm/v 2/")) == "s3://models/vlm/v 2/"
    assert str(SourceRef("s3", "models", "")) == "s3://models/"


def test_objects_of_a_source_are_named_from_its_root() -> None:
    source = SourceRef("s3", "models", "vlm/")
    assert source.root == "s3://models"
    assert source.uri_of("vlm/weights") == "s3://models/vlm/weights"
