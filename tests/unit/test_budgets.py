"""Files and functions stay small enough to read in one go."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = sorted((ROOT / "src" / "containerkit").rglob("*.py"))
C = sorted((ROOT / "src" / "_native").glob("*.[ch]"))

MODULE_LINES = 400
FUNCTION_LINES = 50
C_FILE_LINES = 500
C_FUNCTION_LINES = 60
C_LINES_IN_ALL = 5000


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def long_functions(path: Path) -> Iterator[str]:
    """Name the functions of a module that are too long; a docstring does not count."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0]
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        start = body[0].lineno if body else first.lineno
        length = (node.end_lineno or start) - start + 1
        if length > FUNCTION_LINES:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"


def long_c_functions(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8").splitlines()
    start = 0
    for number, line in enumerate(text, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            if number - start - 1 > C_FUNCTION_LINES:
                name = re.sub(r"\(.*", "", text[start - 2])
                yield f"{path.relative_to(ROOT)}:{start} {name}: {number - start - 1} lines"
            start = 0


def test_python_modules() -> None:
    assert not [f"{p.relative_to(ROOT)}: {lines(p)}" for p in PYTHON if lines(p) > MODULE_LINES]


def test_python_functions() -> None:
    assert not [name for path in PYTHON for name in long_functions(path)]


def test_c_files() -> None:
    assert not [f"{p.name}: {lines(p)}" for p in C if lines(p) > C_FILE_LINES]


def test_c_functions() -> None:
    assert not [name for path in C for name in long_c_functions(path)]


def code_lines(path: Path) -> int:
    """Count the lines of a C file that hold code: a comment is never too much."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sum(1 for line in text.splitlines() if line.strip())


def test_the_c_core_as_a_whole() -> None:
    counts = {path.name: code_lines(path) for path in C}
    assert sum(counts.values()) <= C_LINES_IN_ALL, counts
