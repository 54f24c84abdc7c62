"""What the file system refuses comes out as a typed error that says what to do."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.errors import HostError
from containerkit.layers.apply import apply_layer
from containerkit.model.digest import Digest
from tests.support.patience import unmount
from tests.support.tars import END, TAR, entry, unpack


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB and few inodes."""
    target = tmp_path / "small"
    target.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=50", "tmpfs", target], check=True
    )
    yield target
    unmount(target)


@pytest.mark.needs("mounts")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(entry(b"large", data=bytes(5 << 20)) + END, id="no space"),
        pytest.param(b"".join(entry(b"f%d" % n) for n in range(60)) + END, id="no inodes"),
    ],
)
def test_a_full_disk(data: bytes, small: Path) -> None:
    with pytest.raises(HostError) as raised:
        apply_layer([data], media_type=TAR, diff_id=Digest.of(data), destination=small)
    assert raised.value.errno == errno.ENOSPC
    assert "free space" in str(raised.value)
    assert "No space left on device" in str(raised.value)


@pytest.mark.needs("mounts")
def test_a_read_only_file_system(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    with pytest.raises(HostError) as raised:
        unpack(entry(b"f") + END, small)
    assert raised.value.errno == errno.EROFS


def test_open_files_are_few_however_many_directories(tmp_path: Path) -> None:
    """Two layers at a time must fit the usual limit of 1,024 open files."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 150, before[1]))
    try:
        unpack(b"".join(entry(b"d%d/f" % n) for n in range(500)) + END, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(list(tmp_path.iterdir())) == 500
