"""Who can give containers ids of their own is asked by trying."""

from __future__ import annotations

import pytest

import containerkit as ck


@pytest.fixture(autouse=True)
def ranges(engine: ck.Engine, busybox: str) -> None:
    """Skip where no container can have a user namespace of its own."""
    try:
        engine.plan(busybox, ["true"], security=ck.Security(userns="auto"))
    except ck.MissingFeature as error:
        pytest.skip(f"needs a user namespace's range: {error}")
