"""A launcher that is stopped: whoever said how long to wait does not wait for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import containerkit as ck
from containerkit.errors import Timeout


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
