"""Execs where there are no control groups, and when their launcher is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus
from tests.integration.exec.look import launcher_of

PROGRAM = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine, engine.start(sys.argv[2], ["sleep", "9999"]) as box:
    print(box.exec("cat; exit 3", input="in", text=True))
    try:
        box.exec(["sleep", "9999"], timeout=0.2)
    except ck.Timeout as error:
        print(error.result.exit.cause)
    try:
        box.pause()
    except ck.MissingFeature as error:
        print(error.feature)
    with box.popen(["cat"]) as process:
        process.kill()
        print(process.wait(timeout=60).signal)
    with box.popen(["sleep", "9999"]) as process:
        box.kill()
        print(process.wait(timeout=60).signal)
"""


@pytest.mark.needs("mounts")
def test_without_control_groups(shared_root: Path, busybox: str) -> None:
    hide = 'umount -l -R /sys/fs/cgroup && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", hide, "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", PROGRAM, shared_root, busybox],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    first, *rest = done.stdout.splitlines()
    assert "stdout='in'" in first
    assert "exited with code 3" in first
    assert rest == ["timeout", "cgroup freezer", "9", "9"]


def test_its_launcher_is_killed(engine: ck.Engine, busybox: str) -> None:
    """Nobody saw how it ended, and nothing of it is left."""
    with ck.Engine.open(engine.root) as other:
        box = other.start(busybox, ["sleep", "9999"])
        process = box.popen("echo up; exec sleep 9999")
        assert next(process.stdout) == b"up\n"
        os.kill(launcher_of(other).pid, signal.SIGKILL)
        assert process.wait(timeout=60) == ck.Exit(code=None, cause="lost")
        assert process.stdout.read() == b""
        process.close()
        with pytest.raises(InvalidStatus):
            box.exec(["true"])
