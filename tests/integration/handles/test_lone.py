"""The launcher of one container alone: set up while that is created, in whose groups it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.runtime import cgroups, home, supervise
from containerkit.runtime.alive import is_alive
from containerkit.runtime.recover import recover
from containerkit.state import record
from tests.integration.handles.support import FOREVER, line, process
from tests.integration.limits.support import VERSION, groups, has, value
from tests.support.patience import until

v1 = pytest.mark.skipif(VERSION not in ("v1", "hybrid"), reason="version 2 has a group for each")


@contextmanager
def started(engine: ck.Engine, image: str, command: Any, **options: Any) -> Iterator[ck.Container]:
    one = engine.start(image, command, lifetime="detached", **options)
    try:
        yield one
    finally:
        one.remove(force=True)


def launcher_of(engine: ck.Engine, one: ck.Container) -> str:
    state = record.read(engine.root / "containers" / one.id)
    assert state is not None
    return state.launcher


def is_gone(path: Path) -> bool:
    return not path.exists()


def parent(pid: int | None) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[1])


# ---- its groups


@pytest.mark.needs("control groups")
@v1
def test_its_groups_are_the_launchers(engine: ck.Engine, busybox: str) -> None:
    with started(engine, busybox, FOREVER, limits=ck.Limits(pids=7)) as one:
        name = cgroups.PREFIX + launcher_of(engine, one)
        found = groups(one)
        for controller in set(cgroups.CONTROLLERS) & set(found):
            assert found[controller].name == name
            assert not [path for path in found[controller].iterdir() if path.is_dir()]
        assert value(one, "pids.max") == "7"
        one.update(limits=ck.Limits(pids=9))
        assert value(one, "pids.max") == "9"
    for controller in set(cgroups.CONTROLLERS) & set(found):
        until(partial(is_gone, found[controller]))


@pytest.mark.needs("control groups")
def test_what_an_exec_starts_ends_with_it(engine: ck.Engine, busybox: str) -> None:
    with started(engine, busybox, FOREVER, init=True) as one:
        script = "sleep 1000 & echo $!"
        inside = one.exec(["sh", "-c", script], text=True).stdout.strip()
        until(lambda: one.exec(["kill", "-0", inside]).returncode == 1)  # its zombie is reaped
        assert one.exec(["kill", "-0", "1"]).returncode == 0
        with one.popen(["sleep", "1000"]) as running:
            running.kill()
            assert running.wait(timeout=30).signal == signal.SIGKILL
        one.pause()
        assert one.status == "paused"
        one.unpause()
        assert str(one.status) == "running"


@pytest.mark.needs("control groups")
def test_its_last_end_is_told_apart(engine: ck.Engine, busybox: str) -> None:
    if not has("memory"):
        pytest.skip("no memory controller")
    eat = "x=a; while :; do x=$x$x; done"
    limits = ck.Limits(memory="16m", memory_swap="16m")
    with started(engine, busybox, ["sh", "-c", eat], limits=limits) as one:
        found = one.wait(timeout=60)
        assert found.cause == "oom"
        one.start()
        assert one.wait(timeout=60).cause == "oom"


@pytest.mark.needs("control groups")
def test_restarted_it_has_the_same_group(engine: ck.Engine, busybox: str) -> None:
    with started(engine, busybox, FOREVER, restart="always", limits=ck.Limits(pids=7)) as one:
        before, pid = groups(one), one.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: one.status == "running" and one.pid not in (None, pid))
        assert groups(one) == before
        assert one.exec(["true"]).returncode == 0


# ---- what it makes ahead


@pytest.mark.parametrize("network", ["none", "host"])
def test_nothing_is_made_ahead_for_another(engine: ck.Engine, busybox: str, network: str) -> None:
    with started(engine, busybox, FOREVER, network=network) as one:
        assert one.pid is not None
        launcher = parent(one.pid)
        task = Path(f"/proc/{launcher}/task/{launcher}/children")
        until(lambda: task.read_text(encoding="ascii").split() == [str(one.pid)])
        files = Path(f"/proc/{launcher}/fd")
        kept = [os.readlink(file) for file in files.iterdir()]
        assert len([file for file in kept if file.startswith("net:")]) == 1
        one.stop(grace=0)
        one.start()
        assert one.exec(["true"]).returncode == 0


AHEAD = """
from containerkit.runtime import supervise
engine = ck.Engine.open(root)
with supervise.ahead(engine._keeper, {"lifetime": "detached"}) as made:
    if sys.argv[3] == "ready":
        made[0].await_ready()
    print(made[0].id, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("when", ["at once", "ready"])
def test_it_ends_with_who_made_it(shared_root: Path, busybox: str, when: str) -> None:
    """Killed before there was a container for it."""
    with process(AHEAD, shared_root, busybox, when) as maker:
        launcher = line(maker)
        assert is_alive(shared_root, launcher)
        maker.kill()
        maker.wait()

    def cleared() -> bool:
        recover(shared_root)
        return not (shared_root / "owners" / launcher).exists()

    until(cleared)
    assert not (home.run_directory(shared_root) / f"{launcher}.sock").exists()
    for place in cgroups.find().tops.values():
        assert not (place / (cgroups.PREFIX + launcher)).exists()


def test_it_ends_where_nothing_is_created(engine: ck.Engine, busybox: str) -> None:
    with started(engine, busybox, FOREVER, name="taken"):
        before = sorted(os.listdir(engine.root / "owners"))
        with pytest.raises(ck.AlreadyExists):
            engine.start(busybox, FOREVER, name="taken", lifetime="detached")
        with pytest.raises(ck.ConfigError):
            engine.start(busybox, FOREVER, name="taken", lifetime="for ever")  # type: ignore[arg-type]
        assert sorted(os.listdir(engine.root / "owners")) == before


def test_only_a_detached_one_has_it(engine: ck.Engine) -> None:
    with supervise.ahead(engine._keeper, {}) as made:
        assert made == []
