"""A full disk: what can not be made is refused and leaves nothing; removing works."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.integration.handles.support import FOREVER, directories
from tests.support.patience import unmount

pytestmark = pytest.mark.needs("mounts")

SIZE = 24 << 20


@pytest.fixture
def small(engine_root: Path) -> Iterator[Path]:
    engine_root.mkdir()
    options = f"size={SIZE},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", engine_root], check=True)
    yield engine_root
    unmount(engine_root)


def fill(disk: Path, *, leave: int = 0) -> None:
    """Leave so many bytes free."""
    with open(disk / "filler", "wb", buffering=0) as file:
        for size in (1 << 16, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
        if leave:
            file.truncate(file.tell() - leave)


@pytest.mark.parametrize("lifetime", ["owner", "detached"])
def test_removing_with_no_byte_free(small: Path, busybox: str, lifetime: str) -> None:
    options: ck.ContainerOptions = {"lifetime": lifetime}  # type: ignore[typeddict-item]
    with ck.Engine.open(small) as engine:
        stopped = engine.start(busybox, FOREVER, **options)
        stopped.stop()
        created = engine.containers.create(busybox, **options)
        paused = engine.start(busybox, FOREVER, **options)
        paused.pause()
        # It goes for the disk only when its own start is over, too.
        script = "until test -e /go; do sleep 0.01; done; yes > /file & sleep 9999"
        running = engine.start(busybox, ["sh", "-c", script], **options)
        running.exec(["touch", "/go"], check=True)
        fill(small)
        for one in (stopped, created, paused, running):
            one.remove(force=True)
        assert directories(engine) == []
        assert engine.containers.list() == ()


def test_making_one_at_every_size(small: Path, busybox: str) -> None:
    """Either it is there whole, or a typed error says why and nothing is."""
    with ck.Engine.open(small) as engine:
        engine.run(busybox, ["true"])
        made, failures = 0, []
        for leave in (0, 1, 4, 8, 16, 32, 64, 128, 512):
            fill(small, leave=leave * 1024)
            try:
                one = engine.start(busybox, ["true"])
            except (ck.HostError, ck.LaunchError) as error:
                failures.append(error)
                assert directories(engine) == [], leave
            else:
                made += 1
                one.wait()
                one.remove()
            (small / "filler").unlink()
            assert engine.containers.list() == ()
        assert made
        assert failures
        assert all(error.errno for error in failures)
        assert engine.run(busybox, ["true"]).exit.ok
