"""Wherever its process is in control groups: limits hold, or asking for them is refused."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import cgroups
from tests.integration.limits.support import VERSION, eventually, groups, value

TOP = Path("/sys/fs/cgroup")

PROGRAM = """
import os, sys, containerkit as ck
root, image, group = sys.argv[1:]
if group:
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write("0")
with ck.Engine.open(root) as engine:
    assert engine.run(image, ["true"]).exit.ok
    report = engine.probe()
    for name, limits in (
        ("memory", ck.Limits(memory="32m")),
        ("pids", ck.Limits(pids=9)),
        ("cpu", ck.Limits(cpus=0.5)),
    ):
        try:
            with engine.start(image, ["sleep", "1000"], limits=limits) as container:
                print(open(f"/proc/{container.pid}/cgroup").readlines()[-1].strip())
            assert report[f"cgroup {name}"].present, report
        except ck.MissingFeature as error:
            print("MissingFeature", error.feature)
            assert not report[f"cgroup {name}"].present, report
    for limits in (ck.Limits(pids=ck.UNLIMITED, shm_size="1m"), ck.UNLIMITED):
        assert engine.run(image, ["true"], limits=limits).exit.ok
"""


REFUSED = [f"MissingFeature cgroup {name}" for name in ("memory", "pids", "cpu")]


def said(root: Path, image: str, group: str = "", before: tuple[str, ...] = ()) -> list[str]:
    """Run PROGRAM in a group, or as a command does; return its lines, one for each kind of limit.

    What `probe` says of each is what happens.
    """
    command = [*before, sys.executable, "-c", PROGRAM, str(root), image, group]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.needs("mounts")
def test_without_control_groups(shared_root: Path, busybox: str) -> None:
    hide = 'umount -l -R /sys/fs/cgroup && exec "$@"'
    found = said(shared_root, busybox, before=("unshare", "-m", "sh", "-c", hide, "sh"))
    assert found == REFUSED


PAUSE = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    container = engine.containers.get(sys.argv[2])
    container.pause()
    print(container.status)
    container.unpause()
    print(container.status)
"""


@pytest.mark.needs("mounts", "control groups")
def test_a_pause_by_who_sees_no_control_groups(
    engine: ck.Engine, shared_root: Path, busybox: str
) -> None:
    """The launcher does it; whether the last process is frozen by now can not be seen from there."""
    hide = 'umount -l -R /sys/fs/cgroup && exec "$@"'
    with engine.start(busybox, ["sleep", "1000"]) as container:
        command = [sys.executable, "-c", PAUSE, str(shared_root), container.id]
        before = ["unshare", "-m", "sh", "-c", hide, "sh"]
        done = subprocess.run([*before, *command], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()) == ("", ["paused", "running"])


@pytest.fixture
def parent() -> Iterator[Path]:
    """A group without processes, with a leaf."""
    made = TOP / f"ck-test-{os.getpid()}"
    leaf = made / "leaf"
    leaf.mkdir(parents=True)
    yield made
    leaf.rmdir()
    made.rmdir()


@pytest.mark.needs("cgroup2")
def test_in_the_root_group(shared_root: Path, busybox: str) -> None:
    found = said(shared_root, busybox, str(TOP))
    assert [line[:17] for line in found] == 3 * ["0::/containerkit-"]


@pytest.mark.needs("cgroup2")
def test_below_the_root_group(shared_root: Path, busybox: str, parent: Path) -> None:
    found = said(shared_root, busybox, str(parent))
    assert [line[:17] for line in found] == 3 * ["0::/containerkit-"]


@pytest.mark.needs("cgroup2")
def test_in_a_delegated_leaf(shared_root: Path, busybox: str, parent: Path) -> None:
    """As a service of systemd with Delegate=yes that has moved itself into a group of its own."""
    found = said(shared_root, busybox, str(parent / "leaf"))
    expected = f"0::/{parent.name}/containerkit-"
    assert [line[: len(expected)] for line in found] == 3 * [expected]


@pytest.mark.needs("cgroup2")
def test_beside_processes(shared_root: Path, busybox: str, parent: Path) -> None:
    """The group above has processes: no controller reaches further down, and none is tried."""
    with subprocess.Popen(["/bin/sleep", "1000"]) as other:
        (parent / "cgroup.procs").write_text(str(other.pid))
        found = said(shared_root, busybox, str(parent / "leaf"))
        assert (parent / "cgroup.subtree_control").read_text().strip() == ""
        other.send_signal(signal.SIGKILL)
    assert found == REFUSED


@pytest.mark.needs("cgroup2")
def test_in_a_leaf_with_some_controllers(shared_root: Path, busybox: str, parent: Path) -> None:
    """As what systemd hands down to a user: what is there is used, what is not is said."""
    (parent / "cgroup.subtree_control").write_text("+memory +pids")
    (parent / "leaf" / "own").mkdir()
    try:
        found = said(shared_root, busybox, str(parent / "leaf" / "own"))
    finally:
        (parent / "leaf" / "own").rmdir()
    expected = f"0::/{parent.name}/leaf/containerkit-"
    assert [line[: len(expected)] for line in found[:2]] == 2 * [expected]
    assert found[2] == "MissingFeature cgroup cpu"


INSIDE = 'umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
MOVE = "mkdir /sys/fs/cgroup/own && echo 0 > /sys/fs/cgroup/own/cgroup.procs &&"


@pytest.mark.needs("cgroup2")
@pytest.mark.parametrize("moved", [False, True])
def test_in_a_container_of_others(
    shared_root: Path, busybox: str, parent: Path, moved: bool
) -> None:
    """Its own group is the top of all that it sees, and all its processes are in there.

    Until they have been moved out of the way, it can limit none of its own containers.
    """
    (parent / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    enter = f'echo 0 > {parent}/leaf/cgroup.procs && exec unshare -C -m sh -c "$0" sh "$@"'
    inside = INSIDE.replace("exec", f"{MOVE if moved else ''} exec")
    try:
        found = said(shared_root, busybox, before=("sh", "-c", enter, inside))
    finally:
        if moved:
            (parent / "leaf" / "own").rmdir()
    if moved:
        assert [line[:17] for line in found] == 3 * ["0::/containerkit-"]
    else:
        assert found == REFUSED


@pytest.mark.needs("control groups")
def test_a_detached_one_is_outside_of_our_group(engine: ck.Engine, busybox: str) -> None:
    """What ends this process's own group does not end it; its limits hold all the same."""
    container = engine.start(
        busybox, ["sleep", "1000"], lifetime="detached", limits=ck.Limits(pids=9, memory="32m")
    )
    try:
        ours, found = cgroups.find(), groups(container)
        for name in {"unified", *cgroups.CONTROLLERS} & found.keys():
            group = found[name].parent if VERSION == "v2" else found[name]
            assert group.name.startswith(cgroups.PREFIX)
            assert group.parent == ours.tops[name]
        assert value(container, "pids.max") == "9"
    finally:
        container.remove(force=True)
    for group in found.values():
        if cgroups.PREFIX in str(group):
            eventually(functools.partial(is_gone, group), f"{group} is left")


def is_gone(group: Path) -> bool:
    return not group.exists()
