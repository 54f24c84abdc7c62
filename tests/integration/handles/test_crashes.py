"""A process killed at any moment of create, start, rename and remove leaves nothing half done."""

from __future__ import annotations

import random
import select
from pathlib import Path

import pytest

import containerkit as ck
from tests.integration.handles.support import FOREVER, directories, line, process

POINTS = 30

OWNER = """
engine = ck.Engine.open(root)
engine.run(image, ["true"])
print("up", flush=True)
for number in range(1000):
    one = engine.containers.create(image, ["sleep", "1000"], name=f"crash-{number % 3}")
    one.start()
    one.rename(f"renamed-{number % 3}")
    one.stop()
    one.remove()
"""


def killed(text: str, root: Path, image: str, seconds: float) -> None:
    """Kill a process so long after it has said that it is up."""
    with process(text, root, image) as victim:
        assert line(victim) == "up"
        assert victim.stdout is not None
        select.select([victim.stdout], [], [], seconds)
        victim.kill()
        victim.wait()


def times(seed: int, most: float) -> list[float]:
    chosen = random.Random(seed)
    return [chosen.uniform(0, most) for _ in range(POINTS)]


@pytest.mark.slow
def test_an_owner_killed_at_any_time(shared_root: Path, busybox: str) -> None:
    for seconds in times(1, 0.08):
        killed(OWNER, shared_root, busybox, seconds)
        with ck.Engine.open(shared_root) as engine:
            assert engine.containers.list() == (), seconds
            assert directories(engine) == [], seconds
            assert engine._keeper.records.all() == [], seconds
            with engine.start(busybox, FOREVER, name="crash-0") as one:
                one.rename("renamed-0")


DETACHED = """
engine = ck.Engine.open(root)
engine.run(image, ["true"])
print("up", flush=True)
for number in range(1000):
    one = engine.start(image, ["sleep", "1000"], name=f"crash-{number % 3}", lifetime="detached")
    one.stop()
    one.start()
    one.remove(force=True)
"""


@pytest.mark.slow
def test_the_maker_of_detached_ones_killed_at_any_time(shared_root: Path, busybox: str) -> None:
    """Each is there, whole and usable, or not at all."""
    for seconds in times(2, 0.15):
        killed(DETACHED, shared_root, busybox, seconds)
        with ck.Engine.open(shared_root) as engine:
            kept = engine.containers.list()
            assert len(kept) <= 1
            for one in kept:
                assert one.status in ("created", "running", "stopped"), seconds
                if one.status != "running":
                    one.start()
                one.stop()
                one.remove()
            assert directories(engine) == [], seconds
            assert engine._keeper.records.all() == [], seconds


REMOVER = """
engine = ck.Engine.open(root)
print("up", flush=True)
for one in engine.containers.list():
    one.remove(force=True)
"""


@pytest.mark.slow
def test_a_remover_killed_at_any_time(shared_root: Path, busybox: str) -> None:
    """What it has begun to remove is gone, the rest is untouched."""
    with ck.Engine.open(shared_root) as engine:
        for seconds in times(3, 0.05)[:10]:
            ones = [engine.containers.create(busybox, ["true"]) for _ in range(10)]
            killed(REMOVER, shared_root, busybox, seconds)
            engine.recover()
            left = engine.containers.list()
            assert set(left) <= set(ones)
            assert sorted(directories(engine)) == sorted(one.id for one in left)
            for one in left:
                one.start()
                assert one.wait(timeout=120).ok
                one.remove()
            with pytest.raises(ck.ContainerNotFound):
                engine.containers.get(ones[0].id)
