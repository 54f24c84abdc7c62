"""Restart policies and their texts."""

from __future__ import annotations

from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.model.restart import Restart


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", Restart()),
        ("on-failure", Restart("on-failure")),
        ("on-failure:3", Restart("on-failure", max_retries=3)),
        ("always", Restart("always")),
        ("unless-stopped", Restart("unless-stopped")),
    ],
)
def test_texts(text: str, value: Restart) -> None:
    assert Restart.of(text) == value
    assert str(value) == text
    assert Restart.of(value) is value
    assert Restart.of(None) == Restart("no")


@pytest.mark.parametrize(
    "text", ["", "sometimes", "always:3", "no:1", "on-failure:", "on-failure:x", 3]
)
def test_what_is_no_policy(text: Any) -> None:
    with pytest.raises(ConfigError):
        Restart.of(text)


@pytest.mark.parametrize("retries", [-1, True, 1.5, 1 << 31])
def test_what_is_no_number_of_retries(retries: Any) -> None:
    with pytest.raises(ConfigError):
        Restart("on-failure", max_retries=retries)
