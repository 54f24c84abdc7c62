"""A registry for the session of pull tests, a store for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registry import RegistryServer
from tests.support.store import Store, opened


@pytest.fixture(scope="session")
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as registry:
        yield registry


@pytest.fixture
def store(engine_root: Path) -> Iterator[Store]:
    with opened(engine_root) as store:
        yield store
