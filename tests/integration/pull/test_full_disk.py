"""A full disk is told as such, leaves nothing wrong, and can be emptied."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit.errors import HostError
from tests.integration.pull.images import check_layered, layered
from tests.support import ocibuild
from tests.support.patience import unmount
from tests.support.registry import RegistryServer
from tests.support.store import opened

pytestmark = pytest.mark.needs("mounts")


@pytest.fixture
def small_disk(engine_root: Path) -> Iterator[Path]:
    """A file system of 8 MiB: the image's blobs fit, its trees do not."""
    engine_root.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", engine_root], check=True
    )
    yield engine_root
    unmount(engine_root)


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


def fill(disk: Path) -> Path:
    """Leave no free byte."""
    path = disk / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def test_a_pull_that_fills_the_disk_goes_on_when_there_is_room(
    registry: RegistryServer, small_disk: Path
) -> None:
    reference = registry.push("full/a", layered())
    with opened(small_disk) as store:
        with pytest.raises(HostError) as caught:
            store.images.pull(reference)
        assert caught.value.errno in {errno.ENOSPC, errno.EIO}
        assert f"cannot pull {reference}" in str(caught.value)
        assert store.images.list() == ()
        store.check_blobs()
        grow(small_disk)
        store.images.pull(reference)
        check_layered(store, reference)
        assert store.debris() == []


def test_a_pull_that_filled_the_disk_can_be_collected(
    registry: RegistryServer, small_disk: Path
) -> None:
    reference = registry.push("full/a", layered())
    with opened(small_disk) as store:
        with pytest.raises(HostError):
            store.images.pull(reference)
        store.images.gc()
        assert store.is_empty()


def test_an_image_can_be_removed_from_a_full_disk(
    registry: RegistryServer, small_disk: Path
) -> None:
    reference = registry.push("full/b", ocibuild.image([{"f": bytes(100_000)}]))
    with opened(small_disk) as store:
        store.images.pull(reference)
        store.snapshots.settle()
        fill(small_disk)
        store.images.remove(reference)
        assert store.is_empty()
