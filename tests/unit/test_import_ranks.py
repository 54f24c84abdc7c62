"""The direction of imports: a module knows only modules of a lower rank.

The ranks are the order in which data flows (docs/architecture.md).  An import inside a function or
under TYPE_CHECKING counts as well: it is knowledge all the same.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

RANKS = {
    "errors": 0,
    "surface": 0,
    "model": 0,
    "_native": 1,
    "state": 1,
    "content": 2,
    "registry": 2,
    "layers": 3,
    "stdio": 3,
    "images": 4,
    "snapshots": 4,
    "volumes": 4,
    "launch": 5,
    "runtime": 6,
    "networks": 6,
    "build": 7,
    "care": 7,
    "engine": 7,
    "aio": 8,
    "default": 8,
    "integrations": 8,
    "progress": 8,
    "remote": 8,
    "server": 8,
    "testing": 8,
}
"""The first name below `containerkit` decides; a new folder gets its line here."""

PEERS = {("state", "_native"), ("images", "snapshots"), ("engine", "care"), ("aio", "default")}
"""Within one rank, and never the other way: an ordinary user's root has a user namespace, made in C,
an image's layers are unpacked into snapshots, the engine wires its care, and the default engine is one for both faces."""

PUBLIC = "__init__"
"""The package itself sees everything, lazily; nothing inside imports from it."""

EXTENSION = "_ck"
"""The compiled extension: only `_native` knows it."""


def part_of(module: str) -> str:
    """Return the part that `containerkit.part.rest` belongs to."""
    names = module.split(".")
    return names[1] if len(names) > 1 else PUBLIC


def module_name(path: Path) -> str:
    names = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def is_module(name: str) -> bool:
    path = SOURCE.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir() or part_of(name) == EXTENSION


def imported(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for everything of containerkit that a file imports, anywhere in it."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "containerkit":
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            if base.split(".")[0] == "containerkit":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield node.lineno, inner if is_module(inner) else base


def objection(importer: str, target: str) -> str | None:
    """Say why the part `importer` may not import the part `target`, or None."""
    if importer in (PUBLIC, target):
        return None
    if target == PUBLIC:
        return "nothing inside imports from the public package"
    if target == EXTENSION:
        return None if importer == "_native" else "only _native imports the extension"
    if target not in RANKS:
        return f"{target} has no rank; add it to RANKS"
    if importer == "launch" and target not in ("model", "errors"):
        return "launch is pure: it knows only model and errors"
    if (importer, target) in PEERS or target == "errors" or RANKS[target] < RANKS[importer]:
        return None
    return f"{importer} has rank {RANKS[importer]}, {target} has rank {RANKS[target]}"


def offences() -> Iterator[str]:
    for path in sorted((SOURCE / "containerkit").rglob("*.py")):
        module = module_name(path)
        importer = part_of(module)
        if importer != PUBLIC and importer not in RANKS:
            yield f"{path.relative_to(SOURCE.parent)}: {importer} has no rank; add it to RANKS"
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, target in imported(tree, module, is_package=path.name == "__init__.py"):
            reason = objection(importer, part_of(target))
            if reason:
                where = path.relative_to(SOURCE.parent)
                yield f"{where}:{line}: {module} -> {target}: {reason}"


def test_imports_go_down_the_ranks() -> None:
    found = list(offences())
    assert not found, "imports against the order of the ranks:\n  " + "\n  ".join(found)


@pytest.mark.parametrize(
    ("importer", "target", "allowed"),
    [
        ("runtime", "launch", True),
        ("launch", "runtime", False),
        ("launch", "state", False),
        ("registry", "content", False),
        ("content", "registry", False),
        ("images", "snapshots", True),
        ("snapshots", "images", False),
        ("model", "errors", True),
        ("errors", "model", False),
        ("engine", "engine", True),
        ("engine", PUBLIC, False),
        ("_native", EXTENSION, True),
        ("layers", EXTENSION, False),
        (PUBLIC, "aio", True),
    ],
)
def test_the_rule_itself(importer: str, target: str, *, allowed: bool) -> None:
    assert (objection(importer, target) is None) == allowed


def test_imports_are_seen_wherever_they_stand() -> None:
    text = """
import containerkit.state.lock
from containerkit import errors
from ..model import digest
from . import peer
if TYPE_CHECKING:
    from containerkit.engine import Engine
def late():
    from containerkit.images.pull import pull
import os
"""
    found = [
        name for _, name in imported(ast.parse(text), "containerkit.layers.x", is_package=False)
    ]
    assert {part_of(name) for name in found} == {
        "state", "errors", "model", "layers", "engine", "images",
    }  # fmt: skip
    assert found[1] == "containerkit.errors"
