"""The leak check finds what it is there for: a check that can not fail checks nothing."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from tests.support import leaks


def test_a_descriptor_is_named_until_it_is_closed() -> None:
    before = leaks.take()
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert f"descriptor {fd} -> /dev/null" in leaks.settle(before, 0.0)
    finally:
        os.close(fd)
    assert leaks.settle(before) == []


def test_a_child_process_is_named_until_it_ends() -> None:
    before = leaks.take()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        left = leaks.settle(before, 0.0)
        assert any(line.startswith(f"process {child.pid} ") for line in left), left
    assert leaks.settle(before) == []


def test_a_thread_is_named_until_it_ends() -> None:
    before = leaks.take()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="left-open")
    thread.start()
    assert any("left-open" in line for line in leaks.settle(before, 0.0))
    gate.set()
    thread.join()
    assert leaks.settle(before) == []


def test_a_socket_of_a_dead_launcher_counts_when_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one's is gone sooner."""
    monkeypatch.setattr(leaks, "PATIENCE", 0.2)
    seen = iter([{"left"}, {"left", "another's"}, {"left"}])
    last = {"left", "a third"}
    monkeypatch.setattr(leaks, "sockets", lambda: next(seen, last))
    nothing = leaks.take()._replace(sockets=frozenset())
    assert leaks.settle(nothing) == ["socket left"]
