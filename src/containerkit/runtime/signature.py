"""Signatures that show every option, where a method takes ``**options: Unpack[ContainerOptions]``.

Owns the one decorator, and the default that is told from the same number given by a caller; type
checkers see the method as it is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from containerkit.model.options import ContainerOptions

P = ParamSpec("P")
R = TypeVar("R")


class _Unset:
    """The default of an option in a signature: whatever it is when it is not given."""

    def __repr__(self) -> str:
        return "..."


UNSET = _Unset()


class Unsaid(float):
    """A number that nobody has asked for: the default of a parameter, which gives way to others."""


READY_SECONDS: Final = Unsaid(60)
"""Seconds to wait for readiness, where neither the call nor its `Ready` says another number."""


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
