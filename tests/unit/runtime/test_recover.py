"""What a recovery waits for: launchers that are about to end, and no others."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from containerkit.runtime import alive, recover


def test_one_that_was_let_go_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who let it go died before it heard of that."""
    for name in ("owners", "containers"):
        (tmp_path / name).mkdir()
    fd = os.open(tmp_path / "owners" / "a", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    kind, pid, _started, namespace = alive.belonging(owned=True).split()
    os.write(fd, f"{kind} {pid} 0 {namespace}\n".encode())
    fcntl.flock(fd, fcntl.LOCK_SH)
    heard: list[float] = []

    def hears(seconds: float) -> None:
        heard.append(seconds)
        os.pwrite(fd, b"alone", 0)

    assert alive.lost_its_owner(fd)
    monkeypatch.setattr(recover, "_ENDING_SECONDS", 1e6)
    monkeypatch.setattr(time, "sleep", hears)
    assert recover.recover(tmp_path) == recover.Recovered()
    assert len(heard) == 1
    assert (tmp_path / "owners" / "a").exists()
    os.close(fd)


def test_a_file_renamed_since_is_nobodys_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking it: its holder did that, it did not crash."""
    path, opened = tmp_path / "lock", recover.__dict__["open_regular"]

    def renamed(name: str, flags: int) -> int:
        fd: int = opened(name, flags)
        path.rename(tmp_path / "other")
        return fd

    path.touch()
    with recover._free(str(path)) as (free, _):
        assert free
    monkeypatch.setattr(recover, "open_regular", renamed)
    with recover._free(str(path)) as (free, _):
        assert free is False
