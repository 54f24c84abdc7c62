"""What tests of handles share: programs that run in processes of their own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import containerkit as ck

HEAD = "import os, pickle, signal, sys, containerkit as ck\nroot, image = sys.argv[1:3]\n"
FOREVER = ["sleep", "100000"]


def python(text: str, root: Path, image: str, *more: str, check: bool = True) -> str:
    """Run a program in another process to its end, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + text, str(root), image, *more],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert not check or (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


@contextmanager
def process(text: str, root: Path, image: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in another process meanwhile; it is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + text, str(root), image, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def line(running: subprocess.Popen[str]) -> str:
    """Return the next line that a process says."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


def ends(pidfd: int, seconds: float = 120) -> bool:
    """Wait until a process has ended; closes its descriptor."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)


def directories(engine: ck.Engine) -> list[str]:
    """Return the names of what containers have in the root; what is made ahead left out."""
    return [name for name in os.listdir(engine.root / "containers") if name[0] != "."]


@contextmanager
def stands_still(pid: int) -> Iterator[None]:
    """Stop a process meanwhile."""
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        while "T" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2]:
            time.sleep(0.001)
        yield
    finally:
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        os.close(pidfd)
