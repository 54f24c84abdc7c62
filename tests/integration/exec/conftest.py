"""A container to execute in, and a look at what is left in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import containerkit as ck


@pytest.fixture
def box(engine: ck.Engine, busybox: str) -> Iterator[ck.Container]:
    """A busybox that does nothing by itself."""
    with engine.start(busybox, ["sleep", "100000"]) as container:
        yield container


@pytest.fixture
def python(engine: ck.Engine) -> Iterator[ck.Container]:
    """The host image, in which there is a Python; its init reaps what is orphaned."""
    limits = ck.Limits(pids=128)
    with engine.start(None, ["sleep", "100000"], limits=limits, init=True) as container:
        yield container
