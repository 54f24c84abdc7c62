"""The annotations of the public surface can be evaluated, and errors name the public classes."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

import containerkit as ck
from containerkit import aio, surface


def functions(kind: type) -> Iterator[tuple[str, FunctionType]]:
    """Yield the public methods and properties of a class."""
    for name in dir(kind):
        if name.startswith("_") and name != "__enter__":
            continue
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property):
            member = member.fget
        member = getattr(member, "__func__", member)
        if isinstance(member, FunctionType) and member.__module__.startswith("containerkit"):
            yield name, member


def public() -> Iterator[Any]:
    for where in (ck, aio):
        for name in where.__all__:
            value = getattr(where, name)
            origin = f"{where.__name__}.{name}"
            if isinstance(value, FunctionType):
                yield pytest.param(value, id=origin)
            elif inspect.isclass(value) and value.__module__.startswith("containerkit"):
                yield pytest.param(value, id=origin)
                for inner, function in functions(value):
                    yield pytest.param(function, id=f"{origin}.{inner}")


PUBLIC = list(public())


@pytest.mark.parametrize("value", PUBLIC)
def test_type_hints_can_be_evaluated(value: Any) -> None:
    hints = typing.get_type_hints(value)
    for name, hint in hints.items():
        assert not isinstance(hint, str), name


def test_all_of_the_surface_is_walked() -> None:
    names = {one.id for one in PUBLIC}
    assert {"containerkit.Container.exec", "containerkit.aio.Container.exec"} <= names
    assert {"containerkit.Stats", "containerkit.Engine.run", "containerkit.Container.exit"} <= names


def test_what_they_name_is_what_it_is() -> None:
    hints = typing.get_type_hints(ck.Container.exec)
    assert hints["return"] == ck.Result[bytes] | ck.Result[str]
    assert hints["command"] == ck.Command
    assert typing.get_type_hints(ck.Container.logs)["return"] is ck.Logs
    assert typing.get_type_hints(ck.Engine.run)["image"] == ck.ImageLike
    assert typing.get_type_hints(aio.Engine.start)["return"] == aio.Eventual[aio.Container]


def test_types_are_loaded_only_when_somebody_asks() -> None:
    program = (
        "import sys, containerkit as ck; ck.Engine; ck.Container; "
        "dear = 'containerkit.runtime.changes', 'containerkit.model.stats'; "
        "before = [one in sys.modules for one in dear]; import typing; "
        "typing.get_type_hints(ck.Container.diff); typing.get_type_hints(ck.Container.stats); "
        "print(before, [one in sys.modules for one in dear])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b"[False, False] [True, True]\n"


@pytest.mark.parametrize("kind", [ck.Container, ck.Engine, aio.Container, aio.Engine])
def test_errors_name_the_public_class(kind: type) -> None:
    for name, function in functions(kind):
        assert function.__qualname__ == f"{kind.__name__}.{name}"


def test_a_type_error_names_the_public_class() -> None:
    anything: Any = object()
    with pytest.raises(TypeError, match=r"^Container\.exec\(\) "):
        ck.Container.exec(anything, "true", stderr=anything, nothing=1)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^Container\.stop\(\) "):
        ck.Container.stop(anything, 5)  # type: ignore[call-arg]


def test_presenting_twice_changes_nothing() -> None:
    before = ck.Container.exec.__annotations__
    surface.present(ck.Container)
    assert ck.Container.exec.__annotations__ is before
