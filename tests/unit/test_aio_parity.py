"""The two faces are one: names, parameters, annotations and docstrings, but for the waiting."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.aio import face
from containerkit.images.images import Images
from containerkit.runtime.containers import Containers
from containerkit.runtime.files import Files
from containerkit.runtime.process import Process
from containerkit.stdio.pipes import Reader, Writer

PAIRS: dict[type, type] = {
    ck.Engine: aio.Engine,
    Images: aio.Images,
    ck.Image: aio.Image,
    Containers: aio.Containers,
    ck.Container: aio.Container,
    Files: aio.Files,
    Process: aio.Process,
    Reader: aio.Reader,
    Writer: aio.Writer,
}

ITERATED = {
    "Logs": "Stream[LogEntry]",
    "Events": "Stream[Event]",
    "Watch": "Stream[Stats]",
    "Engine": "Self",
}
"""What is iterated here, and what there."""

NOT_AWAITED = {
    "Engine.login": "keeps two texts in memory",
    "Container.address": "reads what the handle knows",
    "Process.poll": "looks, and never waits",
    "Process.send_signal": "one packet",
    "Process.kill": "one packet",
    "Process.terminate": "one packet",
    "Process.resize": "one ioctl",
    "Reader.fileno": "a number",
    "Reader.close": "closes a descriptor",
    "Reader.readable": "a constant",
    "Writer.writable": "a constant",
    "Writer.fileno": "a number",
    "Writer.flush": "does nothing",
    "Writer.close": "closes a descriptor",
}
"""Methods that are the same in both faces, and why they need not be awaited."""

CASES = [
    pytest.param(blocking, own, name, id=f"{own.__name__}.{name}")
    for blocking, own in PAIRS.items()
    for name in sorted({*dir(blocking), *getattr(blocking, "__slots__", ())})
    if not name.startswith("_")
]


def raw(kind: type, name: str) -> Any:
    return inspect.getattr_static(kind, name)


def function(member: Any) -> Callable[..., Any]:
    if isinstance(member, property):
        assert member.fget is not None
        return member.fget
    found: Callable[..., Any] = getattr(member, "__func__", member)
    return found


def without_faces(annotation: object) -> str:
    """Return an annotation without where a class comes from, and without the waiting."""
    text = re.sub(r"\b(blocking_\w+|blocking)\.", "", str(annotation))
    text = re.sub(r"\bEventual\[(Process\[\w+\]|\w+)\]", r"\1", text)
    return ITERATED.get(text, text)


def parameters(member: Callable[..., Any]) -> list[tuple[str, object, object, str]]:
    """Return what a caller gives: of ``self``, no type."""
    return [
        (one.name, one.kind, one.default, without_faces(one.annotation) * (one.name != "self"))
        for one in inspect.signature(member).parameters.values()
    ]


@pytest.mark.parametrize(("blocking", "own", "name"), CASES)
def test_each_public_name_is_in_both_faces(blocking: type, own: type, name: str) -> None:
    assert hasattr(own, name), f"{own.__name__} of the asyncio face has no {name}"
    theirs, ours = raw(blocking, name), raw(own, name)
    if inspect.isdatadescriptor(theirs):  # a property, or a slot
        assert inspect.isdatadescriptor(ours)
        return
    assert parameters(function(ours)) == parameters(function(theirs))
    said = without_faces(inspect.signature(function(ours)).return_annotation)
    assert said == without_faces(inspect.signature(function(theirs)).return_annotation)


@pytest.mark.parametrize(("blocking", "own", "name"), CASES)
def test_what_may_block_is_awaited(blocking: type, own: type, name: str) -> None:
    ours = raw(own, name)
    if inspect.isdatadescriptor(ours):
        return
    method = function(ours)
    waits = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
    returns = str(inspect.signature(method).return_annotation)
    later = returns.startswith(("Eventual[", "Stream["))
    assert waits or later or f"{own.__name__}.{name}" in NOT_AWAITED


@pytest.mark.parametrize(("blocking", "own", "name"), CASES)
def test_docstrings_are_the_same(blocking: type, own: type, name: str) -> None:
    theirs = inspect.getdoc(raw(blocking, name))
    if isinstance(raw(blocking, name), property) or inspect.isfunction(raw(blocking, name)):
        assert inspect.getdoc(raw(own, name)) == theirs


def test_nothing_is_only_in_the_asyncio_face() -> None:
    for blocking, own in PAIRS.items():
        extra = {name for name in dir(own) if not name.startswith("_")} - set(dir(blocking))
        # Python 3.13 takes a docstring's indentation away by itself.
        said = inspect.getdoc(blocking) or ""
        attributes = re.findall(r"^ {4}(\w+): ", said, re.MULTILINE)
        assert extra - set(attributes) == set(), own.__name__


def summaries(module: Path) -> Iterator[tuple[str, str, str]]:
    """Yield class, method and the first line of its docstring, as they stand in the source."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(inner)
                    if text and not inner.name.startswith("_"):
                        yield node.name, inner.name, text.splitlines()[0]


def test_summary_lines_in_the_source_are_the_same() -> None:
    """Whoever reads the source, or hovers over a name, reads what `help` says."""
    twins = {own.__name__: blocking for blocking, own in PAIRS.items()}
    twins |= {"Inside": ck.Container}
    seen = set()
    for module in Path(face.__file__).parent.glob("*.py"):
        for kind, name, line in summaries(module):
            twin = getattr(twins.get(kind), name, None)
            if callable(twin):
                theirs = inspect.getdoc(twin)
                assert theirs is not None
                assert line == theirs.splitlines()[0], f"{module.name}: {kind}.{name}"
                seen.add(kind)
    assert seen == set(twins)


def test_functions_of_the_default_engine() -> None:
    assert inspect.iscoroutinefunction(aio.run)
    assert inspect.iscoroutinefunction(aio.default_engine)
    for name in ("run", "start", "default_engine"):
        theirs = inspect.signature(getattr(ck, name))
        assert list(inspect.signature(getattr(aio, name)).parameters) == list(theirs.parameters)


def test_every_public_handle_has_a_twin() -> None:
    for blocking, own in PAIRS.items():
        assert own.__name__ == blocking.__name__
        assert own.__name__ in aio.__all__
