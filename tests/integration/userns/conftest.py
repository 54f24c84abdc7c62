"""The engine of these tests, in both ways in which a container's layers come to its ids.

Who can give containers ids of their own is asked by trying.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.conftest import missing


@pytest.fixture(scope="session")
def refusal(shared_root: Path, busybox: str) -> str | None:
    """Why no container can have a user namespace of its own, if so."""
    if missing("ids"):
        return missing("ids")
    with ck.Engine.open(shared_root) as engine:
        try:
            engine.plan(busybox, ["true"], security=ck.Security(userns="auto"))
        except ck.MissingFeature as error:
            return str(error)
    return None


@pytest.fixture(autouse=True)
def ranges(refusal: str | None) -> None:
    """Skip where no container can have a user namespace of its own."""
    if refusal:
        pytest.skip(f"needs a user namespace's range: {refusal}")


@pytest.fixture(params=["mapped", "copied"] if os.geteuid() == 0 else ["copied"])
def engine(shared_root: Path, request: pytest.FixtureRequest) -> Iterator[ck.Engine]:
    """With id-mapped layers, and with copies, as where the kernel has none, or for an ordinary user."""
    config = ck.EngineConfig(copied_layers=request.param == "copied")
    with ck.Engine.open(shared_root, config=config) as opened:
        yield opened
