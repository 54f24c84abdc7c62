"""A small crowd on one root in every run of the tests; `make sweep-crowd` is the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.crowd import crowd
from tests.support.registry import RegistryServer


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.integration
@pytest.mark.needs("host root")
def test_a_crowd_with_random_kills(engine_root: Path, registry: RegistryServer) -> None:
    """Nobody waits for long, the root stays whole, and opened again it holds no debris."""
    figures = crowd(engine_root, registry, processes=4, operations=30, longest=240)
    assert figures.findings == [], str(figures)
    assert figures.killed >= 1
    assert figures.operations >= 100
