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
from tests.integration.limits.support import eventually, groups, value

TOP = Path("/sys/fs/cgroup")

PROGRAM = """
import os, sys, containerkit as ck
root, image, group = sys.argv[1:]
if group:
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write("0")
with ck.Engine.open(root) as engine:
    assert engine.run(image, ["true"]).exit.ok
    for limits in (ck.Limits(memory="32m"), ck.Limits(pids=9), ck.Limits(cpus=0.5)):
        try:
            with engine.start(image, ["sleep", "1000"], limits=limits) as container:
                print(open(f"/proc/{container.pid}/cgroup").readlines()[-1].strip())
        except ck.MissingFeature as error:
            print("MissingFeature", error.feature)
    for limits in (ck.Limits(pids=ck.UNLIMITED, shm_size="1m"), ck.UNLIMITED):
        assert engine.run(image, ["true"], limits=limits).exit.ok
"""


def said(root: Path, image: str, group: str = "", before: tuple[str, ...] = ()) -> list[str]:
    command = [*before, sys.executable, "-c", PROGRAM, str(root), image, group]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_without_control_groups(shared_root: Path, busybox: str) -> None:
    hide = 'umount -l -R /sys/fs/cgroup && exec "$@"'
    found = said(shared_root, busybox, before=("unshare", "-m", "sh", "-c", hide, "sh"))
    assert found == [f"MissingFeature cgroup {name}" for name in ("memory", "pids", "cpu")]


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
    assert found == [f"MissingFeature cgroup {name}" for name in ("memory", "pids", "cpu")]


def test_a_detached_one_is_outside_of_our_group(engine: ck.Engine, busybox: str) -> None:
    """What ends this process's own group does not end it; its limits hold all the same."""
    container = engine.start(
        busybox, ["sleep", "1000"], lifetime="detached", limits=ck.Limits(pids=9, memory="32m")
    )
    try:
        ours, found = cgroups.find(), groups(container)
        for name in {"unified", *cgroups.CONTROLLERS} & found.keys():
            assert found[name].parent.parent == ours.tops[name]
        assert value(container, "pids.max") == "9"
    finally:
        container.remove(force=True)
    for group in found.values():
        if cgroups.PREFIX in str(group):
            gone = functools.partial(is_gone, group.parent)
            eventually(gone, f"{group.parent} is left")


def is_gone(group: Path) -> bool:
    return not group.exists()
