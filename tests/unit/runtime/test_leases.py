"""Leases of a shared container: its launcher's end of the FIFO hangs up with the last user."""

from __future__ import annotations

import os
import select
from pathlib import Path

from containerkit.runtime import leases


def hangs_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def test_the_last_user(tmp_path: Path) -> None:
    leases.make(tmp_path)
    assert not leases.is_used(tmp_path)
    one, two = leases.take(tmp_path), leases.take(tmp_path)
    assert one is not None
    assert two is not None
    watch = leases.open_watch(tmp_path)
    try:
        assert leases.is_used(tmp_path)
        assert not hangs_up(watch)
        one.release()
        assert leases.is_used(tmp_path)
        assert not hangs_up(watch)
        two.release()
        assert not leases.is_used(tmp_path)
        assert hangs_up(watch)
    finally:
        os.close(watch)


def test_a_fork_is_no_user(tmp_path: Path) -> None:
    leases.make(tmp_path)
    one = leases.take(tmp_path)
    assert one is not None
    watch = leases.open_watch(tmp_path)
    reader, writer = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)  # it runs: what a fork has to let go of is gone
        os.close(writer)
        os.read(reader, 1)  # lives on until the parent says so
        os._exit(0)
    os.close(tell)
    try:
        assert os.read(told, 1) == b""
        one.release()
        assert not leases.is_used(tmp_path)
        assert hangs_up(watch)
    finally:
        os.close(told)
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)
        os.close(watch)


def test_what_was_removed_can_not_be_taken(tmp_path: Path) -> None:
    assert leases.take(tmp_path) is None
    assert leases.take(tmp_path / "gone") is None
    assert not leases.is_used(tmp_path / "gone")
    (tmp_path / leases.NAME).touch()
    assert leases.take(tmp_path) is None
