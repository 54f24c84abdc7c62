"""What an exec may do: as much as its container, whoever asks for it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import facts
from tests.integration.exec.look import launcher_of

ALL = "CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"
KILL = 1 << 5
NET_RAW = 1 << 13
PR_CAPBSET_DROP = 24

START = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    print(engine.start(sys.argv[2], ["sleep", "100000"], lifetime="detached").id)
"""
EXEC = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    box = engine.containers.get(sys.argv[2])
    print(box.exec(["cat", "/proc/self/status"], text=True, privileged=len(sys.argv) > 3).stdout)
"""


def without_net_raw(program: str, *arguments: str) -> str:
    """Run a program in a process that lacks a capability of the default ones."""
    libc = ctypes.CDLL(None)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
        preexec_fn=lambda: libc.prctl(PR_CAPBSET_DROP, 13, 0, 0, 0),
    )
    return done.stdout


def masks(status: str) -> dict[str, int]:
    """Return the sets of capabilities in a text of proc_pid_status(5)."""
    lines = dict(line.partition(":\t")[::2] for line in status.split("\n"))
    return {name: int(lines[name], 16) for name in ALL}


def held(box: ck.Container, *, process: str = "self", privileged: bool = False) -> dict[str, int]:
    """Return what an exec holds, or what it sees that another process does."""
    command = ["cat", f"/proc/{process}/status"]
    return masks(box.exec(command, text=True, privileged=privileged).stdout)


def own() -> dict[str, int]:
    return masks(Path("/proc/self/status").read_text(encoding="ascii"))


def test_as_the_container(box: ck.Container) -> None:
    assert held(box) == held(box, process="1")
    assert held(box)["CapBnd"] & NET_RAW


def test_as_a_container_with_fewer(engine: ck.Engine, busybox: str) -> None:
    few = ck.Security(capabilities=["KILL"])
    with engine.start(busybox, ["sleep", "100000"], security=few) as box:
        assert held(box) == dict.fromkeys(ALL[:3], KILL) | dict.fromkeys(ALL[3:], 0)
        assert held(box, process="1") == held(box)


def test_privileged_is_as_much_as_the_launcher_has(engine: ck.Engine, box: ck.Container) -> None:
    """Which is what this process has; of an ordinary user, all in a user namespace of its own."""
    given = facts.capabilities(launcher_of(engine).pid)
    assert held(box, privileged=True)["CapEff"] == given
    assert os.geteuid() or given == own()["CapEff"] & own()["CapBnd"]


@pytest.mark.needs("host root")
def test_a_container_of_a_process_with_fewer(engine: ck.Engine, busybox: str) -> None:
    """Not what the asking process has counts, but what the container was started with."""
    identity = without_net_raw(START, str(engine.root), busybox).strip()
    box = engine.containers.get(identity)
    try:
        assert not held(box, process="1")["CapBnd"] & NET_RAW
        assert held(box) == held(box, process="1")
        assert held(box, privileged=True)["CapEff"] == own()["CapEff"] & ~NET_RAW
    finally:
        box.remove(force=True)


@pytest.mark.needs("host root")
def test_a_process_with_fewer_asks(engine: ck.Engine, box: ck.Container) -> None:
    """The container's own for an ordinary exec; a privileged one gets no more than who asks has."""
    asked = masks(without_net_raw(EXEC, str(engine.root), box.id))
    assert asked == held(box, process="1")
    asked = masks(without_net_raw(EXEC, str(engine.root), box.id, "privileged"))
    assert asked["CapEff"] == own()["CapEff"] & own()["CapBnd"] & ~NET_RAW
    assert os.geteuid() == 0
