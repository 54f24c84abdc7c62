"""What is offered after a dot: by an editor, or IPython before anything is run, and by `dir()`.

The first is asked of jedi itself.  The second is compared with the page that lists all public names.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType

import jedi
import pytest

import containerkit as ck
from containerkit import aio

HEAD = "import containerkit as ck\nfrom containerkit import aio\n"
RESULT = {"stdout", "stderr", "exit", "returncode", "check"}
CONTAINER = {"exec", "popen", "logs", "stop", "files", "status", "commit"}
ENGINE = {"run", "start", "images", "containers", "close"}

CASES = {
    "ck.": {"run", "start", "Engine", "Limits", "Mount", "aio", "ContainerKitError"},
    "ck.Engine.": {"open"},
    "ck.Engine.open().": ENGINE,
    "ck.run(None, 'true').": RESULT,
    "ck.start('redis').": CONTAINER,
    "ck.start('redis').exec('true').": RESULT,
    "ck.start('redis').popen('true').": {"stdin", "wait", "communicate", "poll"},
    "ck.Engine.open().images.": {"pull", "get", "list"},
    "ck.Engine.open().containers.": {"create", "get", "list"},
    "with ck.Engine.open() as engine, engine.start('redis') as one:\n    one.": CONTAINER,
    "with ck.start('redis') as one:\n    result = one.exec('true')\n    result.": RESULT,
    "async def f():\n    result = await aio.run(None, 'true')\n    result.": RESULT,
    "async def f():\n    async with aio.Engine.open() as engine:\n        engine.": ENGINE,
    "async def f():\n    async with aio.start('redis') as one:\n        one.": CONTAINER,
    "async def f():\n    one = await aio.start('redis')\n    (await one.exec('true')).": RESULT,
}

INTERNAL = ("ensure", "lease", "undo_at_exit", "communicating")


def completed(text: str) -> set[str]:
    return {one.name for one in jedi.Script(HEAD + text).complete()}


@pytest.mark.parametrize("text", CASES)
def test_what_there_is_is_offered(text: str) -> None:
    found = completed(text)
    assert found >= CASES[text]
    assert not [name for name in found if name.startswith("waiting") or name in INTERNAL]


def test_what_there_is_not_is_not_offered() -> None:
    assert not completed("ck.start('redis').nothing().") & CONTAINER


# ---- dir()

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "reference.md"
CLASSES = [
    pytest.param(module, name, id=f"{module.__name__}.{name}")
    for module in (ck, aio)
    for name in sorted(module.__all__)
    if inspect.isclass(found := getattr(module, name)) and not issubclass(found, BaseException)
]
UNLISTED = {"ContainerOptions": "its keys are the options", "Eventual": "to be awaited, no more"}


def documented() -> dict[str, set[str]]:
    """Return the names that the page gives each class."""
    rows = re.findall(r"^\| `(\w+)` \| (`.*`) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", names)) for name, names in rows}


def set_on_self(cls: type) -> set[str]:
    """Return what the methods of a class set: `dir()` of an instance has that too."""
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }


def offered(cls: type) -> set[str]:
    """Return what a class and its instances have without an underscore, but for what builtins have."""
    own, others = set(dir(cls)), set[str]()
    for base in cls.__mro__:
        if base.__module__.startswith("containerkit"):
            own |= set_on_self(base)
        else:
            others |= set(dir(base))
    return {name for name in own - others if not name.startswith("_")}


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_a_class_offers_what_is_documented(module: ModuleType, name: str) -> None:
    """One that should not be public gets an underscore; one that should, a word on the page."""
    assert offered(getattr(module, name)) == documented().get(name, set())
    assert name in documented() or name in UNLISTED


def test_no_class_is_documented_that_is_not_there() -> None:
    assert not documented().keys() - {*ck.__all__, *aio.__all__}


@pytest.mark.parametrize("module", [ck, aio])
def test_a_module_offers_what_is_public(module: ModuleType) -> None:
    assert {name for name in dir(module) if not name.startswith("_")} == {
        name for name in module.__all__ if not name.startswith("_")
    }


class Telling:
    """A control: an instance has a name that only a method sets."""

    def __init__(self) -> None:
        self.told = 1


def test_what_a_method_sets_is_seen() -> None:
    assert set_on_self(Telling) == {"told"}
