"""The public package: every name loads, is documented, and is the same to a type checker."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import containerkit as ck

SOURCE = Path(ck.__file__)
PROMISED = (
    "Engine", "EngineConfig", "Container", "Image", "Result", "Exit", "Mount", "Limits", "UNLIMITED",
    "Security", "LogEntry", "Progress", "Plan", "run", "start", "echo", "default_engine", "progress",
    "Ready", "Healthcheck", "Stats", "Task", "Event", "NotReady", "Timeout",
)  # fmt: skip
"""Names of the surface that exist by now; a later version only adds."""


def typed_names() -> set[str]:
    """Return what the TYPE_CHECKING block of the package imports."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    [block] = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


@pytest.mark.parametrize("name", ck.__all__)
def test_every_name_loads_and_is_documented(name: str) -> None:
    value = getattr(ck, name)
    if inspect.isclass(value) or inspect.isfunction(value) or inspect.ismodule(value):
        assert inspect.getdoc(value)
    assert name in dir(ck)


def test_what_was_promised_is_there() -> None:
    assert not [name for name in PROMISED if not hasattr(ck, name)]


def test_type_checkers_see_the_same_names() -> None:
    modules = {name for name in ck.__all__ if inspect.ismodule(getattr(ck, name))}
    assert typed_names() | modules | {"__version__"} == set(ck.__all__) | {"__version__"}


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = getattr(ck, "nothing")  # noqa: B009 - a type checker knows that it is not there


@pytest.mark.parametrize("name", ["run", "start"])
def test_the_module_functions_have_the_methods_signatures(name: str) -> None:
    function = inspect.signature(getattr(ck, name))
    method = inspect.signature(getattr(ck.Engine, name))
    assert list(function.parameters) == list(method.parameters)[1:]


def test_no_public_method_shares_a_parameter_with_the_options() -> None:
    options = set(ck.ContainerOptions.__annotations__)
    for name in ("run", "start", "plan"):
        method = inspect.unwrap(getattr(ck.Engine, name))
        own = set(inspect.getfullargspec(method).kwonlyargs)
        shared = own & options if "options" in str(inspect.getfullargspec(method).varkw) else set()
        assert not shared, name
