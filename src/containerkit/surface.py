"""How public classes show themselves: their name in errors, their types to whoever asks.

A handle is made of parts, each a module; a `TypeError` of Python's own names the class that a method
was written in, so that `present` gives it the public one's.  And most types are imported for type
checkers only, since loading all of them would make every start dear: they are imported when somebody
reads annotations, as `typing.get_type_hints` does.

Owns both.  Must not: know any class.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

_PACKAGE = __name__.partition(".")[0]


class _Annotations(dict[str, Any]):
    """Annotations, whose names can be evaluated in their module once they were read."""

    __slots__ = ("_module",)

    def __init__(self, annotations: dict[str, Any], module: str) -> None:
        super().__init__(annotations)
        self._module = module

    def _load(self) -> None:
        module, self._module = self._module, ""
        if module:
            load_types(module)

    def __iter__(self) -> Iterator[str]:
        self._load()
        return super().__iter__()

    def keys(self) -> Any:
        self._load()
        return super().keys()

    def values(self) -> Any:
        self._load()
        return super().values()

    def items(self) -> Any:
        self._load()
        return super().items()


def load_types(name: str) -> None:
    """Import into a module what it imports for type checkers only."""
    import ast
    import inspect

    module = sys.modules[name]
    for block in ast.parse(inspect.getsource(module)).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            imports: list[ast.stmt] = [
                node for node in block.body if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            found: dict[str, Any] = {"__name__": name}
            code = compile(ast.Module(imports, type_ignores=[]), name, "exec")
            exec(code, found)  # noqa: S102 -- this module's own imports
            for one, value in found.items():
                vars(module).setdefault(one, value)


def present(public: Any) -> None:
    """Let a class of the public surface, or a function, be seen as its users know it."""
    if isinstance(public, FunctionType):
        _show_types(public)
    if not isinstance(public, type):
        return
    for part in public.__mro__:
        if part.__module__.partition(".")[0] != _PACKAGE:
            continue
        if "__annotations__" in vars(part):
            part.__annotations__ = _seen(part.__annotations__, part.__module__)
        for name, member in list(vars(part).items()):
            function = member.fget if isinstance(member, property) else member
            function = getattr(function, "__func__", function)
            if isinstance(function, FunctionType) and function.__module__ == part.__module__:
                function.__qualname__ = f"{public.__qualname__}.{name}"
                _show_types(function)


def _show_types(function: FunctionType) -> None:
    function.__annotations__ = _seen(function.__annotations__, function.__module__)


def _seen(annotations: dict[str, Any], module: str) -> _Annotations:
    if isinstance(annotations, _Annotations):
        return annotations
    return _Annotations(annotations, module)
