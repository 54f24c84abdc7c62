"""Locks exclude, share, survive renames and forks, and give up in time."""

from __future__ import annotations

import itertools
import os
import threading
import time
from pathlib import Path

import pytest

from containerkit.errors import Timeout
from containerkit.state.lock import Cancelled, FileLock
from tests.support.interrupts import interrupted


def test_a_second_holder_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with FileLock(tmp_path / "lock").acquire():
        assert FileLock(tmp_path / "lock").try_acquire() is False
    second = FileLock(tmp_path / "lock")
    assert second.try_acquire() is True
    second.release()


def test_an_interrupt_while_it_is_taken_leaves_it_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FileLock, "_is_named", interrupted)
        with pytest.raises(KeyboardInterrupt):
            FileLock(tmp_path / "lock").try_acquire()
    second = FileLock(tmp_path / "lock")
    assert second.try_acquire()
    second.release()


def test_an_interrupt_at_any_point_leaves_it_free_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the exception is on its way, and with it whoever held the lock."""
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)  # in a destructor it is dropped
    for number in itertools.count(1):
        other = FileLock(tmp_path / "lock")
        came: list[str] = []
        try:
            with (
                interrupted(number) as came,
                FileLock(tmp_path / "lock").holding(deadline=time.monotonic() + 60),
            ):
                assert not other.try_acquire()
        except KeyboardInterrupt:
            assert other.try_acquire(), came
            other.release()
        if not came:
            break
    assert number > 10


def test_shared_holders_share_and_keep_the_exclusive_one_out(tmp_path: Path) -> None:
    one, two = (FileLock(tmp_path / "lock", shared=True) for _ in range(2))
    with one.acquire(), two.acquire():
        assert FileLock(tmp_path / "lock").try_acquire() is False


def test_a_passed_deadline_is_a_timeout(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "lock").acquire(),
        pytest.raises(Timeout, match="cannot lock lock: another"),
    ):
        FileLock(tmp_path / "lock").acquire(deadline=time.monotonic())


def test_a_cancelled_wait_ends(tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with FileLock(tmp_path / "lock").acquire(), pytest.raises(Cancelled):
        FileLock(tmp_path / "lock").acquire(cancelled=cancelled)


def test_a_lock_whose_file_was_replaced_is_not_held(tmp_path: Path) -> None:
    """Whoever waits for a removed file locks the new one of that name instead."""
    path = tmp_path / "lock"
    first = FileLock(path).acquire()
    got: list[bool] = []
    waiting = threading.Thread(target=lambda: got.append(FileLock(path).acquire().held))
    waiting.start()
    first.release(unlink=True)
    waiting.join()
    assert got == [True]
    assert path.exists()


def test_a_directory_can_carry_a_lock(tmp_path: Path) -> None:
    with FileLock(tmp_path, shared=True, directory=True).acquire():
        assert FileLock(tmp_path, directory=True).try_acquire() is False
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "none", directory=True).try_acquire()


def test_a_forked_child_neither_keeps_nor_drops_its_parents_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path).acquire()
    ready, let_go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        # The child exists, has run its fork handlers, and stays alive over the parent's release.
        os.write(ready[1], b"x" if not lock.held else b"held")
        os.read(let_go[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 4) == b"x"
        assert FileLock(path).try_acquire() is False, "the child dropped it"
        os.close(lock.fd)  # as a dying parent would: no explicit unlock
        lock._fd = -1
        other = FileLock(path)
        assert other.try_acquire() is True, "the child keeps it"
        other.release()
    finally:
        os.write(let_go[1], b"x")
        os.waitpid(child, 0)
        for fd in (*ready, *let_go):
            os.close(fd)


def test_a_copy_of_the_descriptor_keeps_no_lock(tmp_path: Path) -> None:
    """A child that was forked meanwhile may hold one: the lock is given back all the same."""
    lock = FileLock(tmp_path / "lock").acquire()
    copy = os.dup(lock.fd)
    try:
        other = FileLock(tmp_path / "lock")
        assert not other.try_acquire()
        lock.release()
        assert other.try_acquire()
        other.release()
    finally:
        os.close(copy)


def test_a_lock_on_a_file_that_is_no_longer_named_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened, and replaced before it is locked: the file of the name now is locked instead."""
    path, plain = tmp_path / "lock", FileLock._open
    opened: list[int] = []

    def renamed_once(self: FileLock) -> int:
        fd = plain(self)
        if not opened:
            path.rename(tmp_path / "old")
            path.touch()
        opened.append(fd)
        return fd

    monkeypatch.setattr(FileLock, "_open", renamed_once)
    with FileLock(path).acquire() as lock:
        assert os.path.samestat(os.fstat(lock.fd), path.stat())
        assert not FileLock(path).try_acquire()
    assert len(opened) > 1
