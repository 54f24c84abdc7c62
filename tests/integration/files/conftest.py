"""A running container, the way to its files, and files of the host that nothing may reach."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

import containerkit as ck
from containerkit._native import path_open
from containerkit.runtime import beneath
from containerkit.runtime.files import Files


@pytest.fixture
def box(engine: ck.Engine, busybox: str) -> Iterator[ck.Container]:
    """A running container with a shell and nothing to do."""
    with engine.start(busybox, ["sleep", "100000"]) as one:
        yield one


@pytest.fixture
def files(box: ck.Container) -> Files:
    """The files of that container."""
    return box.files


@pytest.fixture(params=["openat2", "walk"])
def resolved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Paths as this kernel resolves them, and as one without openat2(2) is made to."""
    if request.param == "walk":
        monkeypatch.setattr(beneath, "path_open", partial(path_open, openat2=False))
    return str(request.param)
