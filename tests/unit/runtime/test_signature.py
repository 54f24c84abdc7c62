"""Signatures at run time show every option; what can be called stays the same."""

from __future__ import annotations

import inspect

import pytest

import containerkit as ck
from containerkit.runtime.signature import UNSET

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
