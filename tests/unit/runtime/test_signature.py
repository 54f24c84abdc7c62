"""Signatures at run time show every option; what can be called stays the same."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import containerkit as ck
from containerkit.runtime.containers import until_ready
from containerkit.runtime.signature import READY_SECONDS, UNSET

METHODS = [ck.Engine.run, ck.Engine.start, ck.Engine.plan, ck.Containers.create]
METHODS += [ck.Containers.start, ck.Containers.shared]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__qualname__)
def test_every_option_is_there(method: object) -> None:
    assert callable(method)
    parameters = inspect.signature(method).parameters
    options = ck.ContainerOptions.__annotations__
    assert set(options) <= set(parameters)
    assert all(parameters[name].default is UNSET for name in options)
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    assert "env: Mapping[str, str | None] | None = ..." in str(inspect.signature(method)).replace(
        "'", ""
    )


class Asked:
    """A container that is asked to be ready."""

    def _waiting_ready(self, **conditions: Any) -> Any:
        return conditions["timeout"]


@pytest.mark.parametrize("given", [60, 60.0, 5, 0, 3600.5])
def test_a_time_that_was_given_counts(given: float) -> None:
    """Be it the very one that the signature shows."""
    asked: Any = Asked()
    found: Any = until_ready(asked, ck.Ready(port=1, timeout=7), given)
    assert found == given


def test_a_time_that_was_not_given_gives_way() -> None:
    asked: Any = Asked()
    found: Any = until_ready(asked, ck.Ready(port=1, timeout=7), READY_SECONDS)
    assert found == 7
    for method in (ck.Engine.start, ck.Containers.start, ck.Containers.shared):
        shown = inspect.signature(method).parameters["timeout"].default
        assert (shown, repr(shown)) == (60, "60.0")
