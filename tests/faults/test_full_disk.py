"""A disk of 64 MiB that fills up: whatever is tried says so, and can be taken back."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.faults.operations import OPERATIONS, act, undo
from tests.support.patience import unmount

pytestmark = pytest.mark.needs("mkfs.ext4")

STEPS = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)
"""KiB that are free before an operation."""

WRITING = ("run", "start", "detach", "create", "execute", "rename", "restart", "files", "reopen")


@pytest.fixture
def small_disk(engine_root: Path) -> Iterator[Path]:
    """A root on an ext4 of 64 MiB."""
    image = engine_root.with_name("disk")
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", "1024", image], check=True)
    engine_root.mkdir()
    subprocess.run(["mount", "-o", "loop", image, engine_root], check=True)
    yield engine_root
    unmount(engine_root)


def fill(disk: Path, spare_kib: int) -> Path:
    """Leave so many KiB free, but for what the file system keeps for itself."""
    path = disk / "filler"
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
        file.truncate(max(0, os.fstat(file.fileno()).st_size - (spare_kib << 10)))
        os.fsync(file.fileno())
    return path


def kept_in(root: Path) -> list[str]:
    return [name for name in os.listdir(root / "containers") if name[0] != "."]


@pytest.mark.parametrize("name", WRITING)
def test_every_operation_at_every_step(small_disk: Path, busybox: str, name: str) -> None:
    """It works, or says why not; nothing is left then, and with room it works again."""
    failed = 0
    with ck.Engine.open(small_disk) as engine:
        engine.images.pull(busybox)
        engine.images.list()
        for step in STEPS:
            operation = OPERATIONS[name](engine, busybox)
            try:
                act(operation, lambda step=step: fill(small_disk, step), lambda: None)  # type: ignore[misc]
            except ck.ContainerKitError:
                failed += 1
            undo(engine)
            assert kept_in(small_disk) == []
            (small_disk / "filler").unlink(missing_ok=True)
            act(OPERATIONS[name](engine, busybox), lambda: None, lambda: None)
            undo(engine)
        assert engine.check().ok


def test_remove_works_with_no_byte_free(small_disk: Path, busybox: str) -> None:
    with ck.Engine.open(small_disk) as engine:
        engine.images.pull(busybox)
        script = "echo x > /small; head -c 1000000 /dev/zero > /big; sleep 1000"
        running = engine.start(busybox, script, network="none")
        made = engine.containers.create(busybox, "true", network="none")
        fill(small_disk, 0)
        running.remove(force=True)
        made.remove()
        assert engine.containers.list(all=True) == ()
        assert kept_in(small_disk) == []


@pytest.mark.parametrize("short_of", ["bytes", "files"])
def test_a_new_process_gets_in_on_a_full_disk(
    small_disk: Path, busybox: str, short_of: str
) -> None:
    """The catalog's files of the moment are made of what was set aside."""
    with ck.Engine.open(small_disk) as engine:
        made = engine.containers.create(busybox, "true", network="none", lifetime="detached")
    for _ in range(2):
        if short_of == "bytes":
            fill(small_disk, 0)
        else:
            fill_with_files(small_disk)
        with ck.Engine.open(small_disk) as engine:
            assert engine.containers.list(all=True) == (made,)
    with ck.Engine.open(small_disk) as engine:
        engine.containers.get(made.id).remove()
        assert engine.containers.list(all=True) == ()
        for image in engine.images.list():
            engine.images.remove(image)
        engine.gc()
    (small_disk / "filler").unlink(missing_ok=True)
    with ck.Engine.open(small_disk) as engine:
        engine.images.list()
        assert len([name for name in os.listdir(small_disk) if "headroom" in name]) == 5


def fill_with_files(disk: Path) -> None:
    (disk / "files").mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (disk / "files" / f"{time.monotonic_ns()}-{number}").touch()


def test_a_container_that_fills_the_disk_hears_of_it(small_disk: Path, busybox: str) -> None:
    with ck.Engine.open(small_disk) as engine:
        engine.images.pull(busybox)
        script = "head -c 100000000 /dev/zero > /big; echo then"
        with engine.start(busybox, script, network="none") as container:
            container.wait(timeout=250)
            assert "No space left on device" in container.log_text() or not container.log_text()
        assert engine.run(busybox, ["echo", "fine"], network="none").stdout == b"fine\n"
