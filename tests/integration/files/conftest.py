"""A running container, the way to its files, and files of the host that nothing may reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import containerkit as ck
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
