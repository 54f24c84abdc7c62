"""A follower that fails in the middle lets go of everything, though somebody still holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containerkit.errors import HostError
from containerkit.stdio.logs import Logs


class Broken:
    """A life that can not be looked at."""

    closed = False

    def over(self) -> bool:
        raise HostError("cannot look")

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = True


def test_it_lets_go(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    before = len(os.listdir("/proc/self/fd"))
    life = Broken()
    logs = Logs(tmp_path, follow=life)
    assert len(os.listdir("/proc/self/fd")) > before
    with pytest.raises(HostError):
        next(logs)
    assert life.closed
    assert len(os.listdir("/proc/self/fd")) == before
    assert list(logs) == []
