"""The leak check finds what it is there for: a check that can not fail checks nothing."""

from __future__ import annotations

import os
import subprocess
import threading
from itertools import count
from types import SimpleNamespace

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


def test_a_group_counts_when_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's is gone sooner."""
    clock = SimpleNamespace(monotonic=count().__next__, sleep=lambda _seconds: None)
    monkeypatch.setattr(leaks, "time", clock)
    monkeypatch.setattr(leaks, "PATIENCE", 9)
    seen = iter([{"left"}, {"left", "another's"}, {"left"}])
    last = {"left", "a third"}
    monkeypatch.setattr(leaks, "cgroups", lambda: next(seen, last))
    nothing = leaks.take()._replace(cgroups=frozenset())
    assert leaks.settle(nothing, 9) == ["cgroup left"]


@pytest.mark.needs("host root")
def test_a_group_at_the_top_that_nobody_has() -> None:
    """One in a group of another program is that program's."""
    tops = [place for place in leaks.group_places() if os.access(place / "cgroup.procs", os.W_OK)]
    if not tops:
        pytest.skip("needs control groups that can be written")
    name = "containerkit-" + os.urandom(12).hex()
    ours, others = tops[0] / name, tops[0] / f"other-{name}" / name
    ours.mkdir()
    others.mkdir(parents=True)
    try:
        found = list(leaks.cgroups())
    finally:
        for group in (ours, others, others.parent):
            group.rmdir()
    assert str(ours) in found
    assert str(others) not in found
