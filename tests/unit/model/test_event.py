"""Which events a filter lets pass."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from containerkit.errors import ConfigError
from containerkit.model.event import Event, EventFilter

ID = "0123456789abcdef" * 4
EVENT = Event(datetime.now(UTC), "die", ID, "web", "nginx:1", {"code": 1})
LABELS = {"role": "front", "empty": ""}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"kind": "die"},
        {"kind": ("start", "die")},
        {"container": "web"},
        {"container": ID},
        {"container": ID[:4]},
        {"container": ("other", "web")},
        {"container": SimpleNamespace(id=ID)},
        {"image": "nginx:1"},
        {"label": "role"},
        {"label": "role=front"},
        {"label": ("role", "empty=")},
        {"label": {"role": None, "empty": ""}},
        {"kind": "die", "container": "web", "image": ["nginx:1"], "label": "role"},
    ],
)
def test_what_passes(given: dict[str, Any]) -> None:
    assert EventFilter(**given).wants(EVENT, LABELS)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "start"},
        {"container": "we"},
        {"container": ID[:3]},
        {"container": SimpleNamespace(id="f" * 64)},
        {"image": "nginx"},
        {"label": "none"},
        {"label": "role=back"},
        {"label": ("role", "none")},
        {"kind": "die", "container": "other"},
    ],
)
def test_what_does_not(given: dict[str, Any]) -> None:
    assert not EventFilter(**given).wants(EVENT, LABELS)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "dye"},
        {"container": 5},
        {"image": [5]},
        {"label": 5},
        {"label": [5]},
        {"label": {"a": 1}},
        {"label": {1: "a"}},
    ],
)
def test_what_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        EventFilter(**given)
