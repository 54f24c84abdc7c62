"""A launcher as detached containers have it: without spares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import containerkit as ck
from containerkit.runtime.launcher import Launcher
from containerkit.runtime.recover import recover


@pytest.fixture
def launcher(engine: ck.Engine, busybox: str) -> Iterator[Launcher]:
    engine.images.pull(busybox)
    made = Launcher(engine.root, netns_pool=0, spares=0, detached=True)
    yield made
    assert made.alive
    made.close()
    recover(engine.root)
