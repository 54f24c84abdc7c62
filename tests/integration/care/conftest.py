"""A store of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.store import Store, opened


@pytest.fixture
def store(engine_root: Path) -> Iterator[Store]:
    with opened(engine_root) as store:
        yield store
