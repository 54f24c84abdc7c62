"""A launcher or an agent that is stopped: whoever said how long to wait does not wait for ever, and
what was given up does not run later.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import Timeout
from tests.integration.exec.look import launcher_of
from tests.support import patience


@contextmanager
def stopped(engine: ck.Engine) -> Iterator[None]:
    """Stop the engine's launcher for the time of the block."""
    launcher, _ = engine._runner.launcher()
    os.kill(launcher.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(launcher.pid, signal.SIGCONT)


@pytest.mark.parametrize("tty", [False, True])
def test_a_timeout_ends_an_exec(engine: ck.Engine, box: ck.Container, *, tty: bool) -> None:
    box.exec(["true"])
    with stopped(engine), pytest.raises(Timeout):
        box.exec(["touch", "/tmp/done"], timeout=0.2, tty=tty)
    assert box.exec(["true"]).exit.ok


@pytest.mark.parametrize("user", [None, "root"])
def test_a_timeout_ends_the_first_exec(
    engine: ck.Engine, box: ck.Container, user: str | None
) -> None:
    """Also what execs are given, and where account files are, is not waited for longer."""
    with stopped(engine), pytest.raises(Timeout):
        box.exec(["true"], timeout=0.2, user=user)
    assert box.exec(["true"], user=user).exit.ok


def agent_of(engine: ck.Engine, box: ck.Container) -> int:
    """Return the process that makes a container's execs: in all its namespaces, but seen by none there."""
    launcher = launcher_of(engine).pid
    ours = {name: os.stat(f"/proc/{box.pid}/ns/{name}").st_ino for name in ("mnt", "pid")}
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text("ascii").split()
    (agent,) = (
        int(pid)
        for pid in children
        if os.stat(f"/proc/{pid}/ns/mnt").st_ino == ours["mnt"]
        and os.stat(f"/proc/{pid}/ns/pid").st_ino != ours["pid"]
    )
    return agent


@pytest.mark.needs("host root")
def test_what_was_given_up_does_not_run_later(engine: ck.Engine, box: ck.Container) -> None:
    """It was killed before there was anything to kill."""
    box.exec(["true"])
    agent = agent_of(engine, box)
    os.kill(agent, signal.SIGSTOP)
    try:
        patience.stopped(agent)
        with pytest.raises(Timeout) as caught:
            box.exec(["sleep", "1000"], timeout=0.2)
        assert caught.value.result.exit.cause == "timeout"
    finally:
        os.kill(agent, signal.SIGCONT)
    assert box.exec(["true"]).exit.ok  # the agent has come to this one after that
    patience.until(lambda: len(box.top()) == 1)
