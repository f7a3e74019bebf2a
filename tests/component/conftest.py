"""The component as it is deployed, with wheels."""

from __future__ import annotations

import platform
import re
import sys

import pytest

from tools.build import build
from tools.project import Component, ProjectError

from ..tools.checkout import copy_of_the_downloader

_UNREACHABLE = re.compile(r"connect|resol|timed out|unreachable", re.IGNORECASE)


@pytest.fixture(scope="session")
def vendored(tmp_path_factory: pytest.TempPathFactory) -> Component:
    """The downloader, built with the wheels for this machine."""
    component = copy_of_the_downloader(tmp_path_factory.mktemp("checkout"))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        build(component, vendor=True, platforms=[platform.machine()], pythons=[python])
    except ProjectError as error:
        if _UNREACHABLE.search(str(error)):
            pytest.skip(f"wheels come from a package index, and none is reachable: {error}")
        raise
    return component
