"""The free space that a download may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3downloader.core.errors import DownloaderError, ErrorCode
from s3downloader.downloads.planning import disk_space


def test_space_counts_what_is_promised_and_kept_free(tmp_path: Path) -> None:
    free = disk_space.space(tmp_path / "not" / "there").free
    disk_space.check_space(tmp_path, needed=free // 4, promised=free // 4, reserve=free // 4)
    with pytest.raises(DownloaderError, match="bytes are needed") as caught:
        disk_space.check_space(tmp_path, needed=free // 2, promised=free // 4, reserve=free // 2)
    assert caught.value.code is ErrorCode.INSUFFICIENT_SPACE
    assert caught.value.details["needed"] == free // 2
