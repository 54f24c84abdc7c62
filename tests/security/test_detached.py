"""A launcher that outlives its program has nothing of it, as others; nor have its containers.

It has left the session and the process group of whoever started it, so descriptors, terminal,
environment and signals are looked for again: in the container, in an exec by another process, after
a restart of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.security.inside import calls, outcome
from tests.security.test_descriptors import OPENED, STREAMS, opened

SECRET = "hunter2-hunter2"

START = """
import os, sys
import containerkit as ck
place = os.open(sys.argv[4], os.O_RDONLY)
for number in (20, 300):
    os.dup2(place, number, inheritable=True)
with ck.Engine.open(sys.argv[1]) as engine:
    security = getattr(ck.Security, sys.argv[3])()
    engine.start(sys.argv[2], ["sh", "-c", "/attacks/opened; echo end; exec sleep 100000"],
                 security=security, lifetime="detached", name="detached", limits=ck.UNLIMITED)
"""


@pytest.fixture
def box(
    engine: ck.Engine, hostile: str, security: ck.Security, tmp_path: Path
) -> Iterator[ck.Container]:
    """One that a program started which has ended."""
    words = [sys.executable, "-c", START, str(engine.root), hostile, security.preset, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PASSWORD": SECRET}
    subprocess.run(words, env=environment, check=True, timeout=300)
    found = engine.containers.get("detached")
    yield found
    found.remove(force=True)


def test_descriptors(box: ck.Container) -> None:
    box.wait_ready(log="end")
    assert opened(box.log_text()) == STREAMS
    assert opened(box.exec([OPENED], text=True).stdout) == STREAMS
    assert opened(box.exec([OPENED], text=True, tty=True).stdout) == STREAMS


def test_its_launcher(box: ck.Container) -> None:
    assert box.pid is not None
    status = Path(f"/proc/{box.pid}/status").read_text()
    launcher = int(status.partition("PPid:")[2].split()[0])
    place = Path(f"/proc/{launcher}")
    assert (place / "environ").read_bytes() == b""
    assert SECRET.encode() not in (place / "cmdline").read_bytes()
    assert os.readlink(place / "cwd") == "/"
    fields = (place / "stat").read_text().rpartition(")")[2].split()
    assert fields[3] != str(os.getsid(0))
    assert fields[4] == "0"  # without a terminal
    said = box.exec(["sh", "-c", "cat /proc/*/environ /proc/*/cmdline"], text=True).stdout
    assert SECRET not in said


def test_it_can_not_be_ended_from_inside(box: ck.Container) -> None:
    """Its process group is nobody's inside: the parent has no number there."""
    result = box.exec(calls(("getppid",), ("kill", 0, 0), ("kill", -1, 0)), text=True)
    assert outcome(result)[0] == 0
    box.exec(["sh", "-c", "kill -9 -1"])
    assert box.status == "running"
    assert box.exec(["true"]).exit.ok


def test_the_control() -> None:
    """The same is read of an ordinary child of such a program."""
    program = "import os, time; print(flush=True); time.sleep(1000)"
    child = subprocess.Popen(
        [sys.executable, "-c", program], env={"PASSWORD": SECRET}, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"\n"
    assert SECRET.encode() in Path(f"/proc/{child.pid}/environ").read_bytes()
    child.kill()
    child.wait()
    child.stdout.close()
