"""Names of containers: which are good, and free ones."""

from __future__ import annotations

import pytest

from containerkit.errors import ConfigError
from containerkit.runtime.names import check_name, free_name


@pytest.mark.parametrize("name", ["a", "web-1", "A.b_c-d", "0", "f" * 63, "a" * 128])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a b", "a/b", "é", "a\n", "a" * 129, "f" * 64, None, 1, b"a"]
)
def test_bad_names(name: object) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


def test_free_names_are_good_and_many() -> None:
    names = [free_name(attempt) for attempt in range(20) for _ in range(100)]
    assert [check_name(name) for name in names] == names
    assert len(set(names)) > 1500
