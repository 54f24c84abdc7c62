"""Signatures that show every option, where a method takes ``**options: Unpack[ContainerOptions]``.

Owns the one decorator; type checkers see the method as it is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from containerkit.model.options import ContainerOptions

P = ParamSpec("P")
R = TypeVar("R")


class _Unset:
    """The default of an option in a signature: whatever it is when it is not given."""

    def __repr__(self) -> str:
        return "..."


UNSET = _Unset()


def with_options(function: Callable[P, R]) -> Callable[P, R]:
    """Give a function that ends in ``**options`` a signature with each option by name."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=UNSET, annotation=_text(annotation)
        )
        for name, annotation in ContainerOptions.__annotations__.items()
    ]
    described: Any = function
    described.__signature__ = signature.replace(parameters=[*own, *options])
    return function


def _text(annotation: object) -> object:
    return getattr(annotation, "__forward_arg__", annotation)
